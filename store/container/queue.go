package container

import "sync"

// change is something that becomes a fact with a commit.
type change struct {
	records [][]byte // for the log
	// data says that bytes were written to the file which must be synced first, since
	// no sync had failed but the first so many.
	data  bool
	since uint64
	// grows says that it makes what the container holds more: it is refused when
	// the disk has no room for a longer log.
	grows bool
	// admit may refuse it, before anything is written; terms is how many reservations
	// the changes before it in the same commit add.
	admit func(terms int) error
	terms int // reservations that it adds; set by admit
	// apply brings it into the state. It is called once it is durable, with Store.mu held.
	apply func(st *state)
	freed []extent // pages that are free then
	fence *fence
	// settle is called exactly once, at the end, without a lock.
	settle func(err error)
}

// bytes is what the change takes in the log.
func (c *change) bytes() (n int64) {
	for _, r := range c.records {
		n += int64(len(r))
	}
	return n
}

// queue is where changes wait for the committer. It is bounded by those who wait: each caller brings its changes and waits for them.
type queue struct {
	mu     sync.Mutex
	ready  *sync.Cond
	items  []*change
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.ready = sync.NewCond(&q.mu)
	return q
}

// put is not called after close: the store waits for all calls first.
func (q *queue) put(cs ...*change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, cs...)
	q.ready.Signal()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Signal()
}

// take waits for changes and gives as many as fill one commit, at least one; none
// once the queue is closed and empty.
func (q *queue) take() []*change {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 {
		if q.closed {
			return nil
		}
		q.ready.Wait()
	}
	var bytes int64
	n := 0
	for ; n < len(q.items) && n < maxPending; n++ {
		bytes += q.items[n].bytes()
		if n > 0 && bytes > commitBytes {
			break
		}
	}
	batch := q.items[:n:n]
	q.items = q.items[n:]
	return batch
}

// commit brings changes to the committer and waits until each is settled.
func (s *Store) commit(cs ...*change) []error {
	errs := make([]error, len(cs))
	var wait sync.WaitGroup
	wait.Add(len(cs))
	for i, c := range cs {
		settle := c.settle
		c.settle = func(err error) {
			defer wait.Done()
			if settle != nil {
				settle(err)
			}
			errs[i] = err
		}
	}
	s.queue.put(cs...)
	wait.Wait()
	return errs
}
