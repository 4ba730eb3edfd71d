package cache

import (
	"container/list"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/store"
)

// Key names one block of a crate. What it stands for never changes.
type Key struct {
	Crate store.CrateID
	Block int64
}

// Options of a Cache. Dir and Bytes must be given.
type Options struct {
	// Dir is the directory; it is made if it is not there. It is this cache's alone.
	Dir string
	// Bytes is the most that its files may take, in bytes.
	Bytes int64
	// Floor is how much of the filesystem stays free, in bytes.
	Floor int64
	// Spare reports whether the blocks of a crate may go. It may be called at any time,
	// with no lock held. nil: all may.
	Spare func(store.CrateID) bool
	// Log takes what an operator should know; nil discards it.
	Log logrus.FieldLogger
	// Available tells what is free at Dir, in bytes; nil asks the filesystem.
	Available func() (int64, error)
}

// Cache keeps blocks in files. All methods may be called concurrently.
type Cache struct {
	o       Options
	waiting chan block
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu    sync.Mutex
	order list.List // of *kept, the most recently used in front
	byKey map[Key]*list.Element
	bytes int64
	soon  map[Key]struct{} // waiting to be written
	pace  pace
}

// kept is one file.
type kept struct {
	key  Key
	size int64     // on the disk, in bytes
	used time.Time // as the file says
}

type block struct {
	key  Key
	data []byte
}

// Open opens the cache. What is there from before is found in the background.
func Open(o Options) (*Cache, error) {
	if o.Dir == "" || o.Bytes <= 0 || o.Floor < 0 {
		return nil, &store.Error{Kind: store.Invalid, Op: "open the cache", Subject: o.Dir, Detail: "no directory or no size"}
	}
	if o.Spare == nil {
		o.Spare = func(store.CrateID) bool { return true }
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	if o.Available == nil {
		o.Available = func() (int64, error) { return available(o.Dir) }
	}
	if err := prepare(o.Dir); err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "open the cache", Subject: o.Dir, Err: err,
			Hint: "look whether its filesystem is there and can be written"}
	}
	c := &Cache{o: o, waiting: make(chan block, MaxWaiting), byKey: make(map[Key]*list.Element), soon: make(map[Key]struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.work.Go(c.run)
	return c, nil
}

// Close ends the writing. What waits to be written is not kept.
func (c *Cache) Close() {
	c.cancel()
	c.work.Wait()
}

// Get gives a block of the given length; nil if it is not here. Its bytes are to be
// checked, and Drop called if they are wrong.
func (c *Cache) Get(k Key, length int64) []byte {
	path := c.path(k)
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != length {
		c.Drop(k)
		return nil
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(f, data); err != nil {
		c.Drop(k)
		return nil
	}
	c.used(k, path)
	return data
}

// Has reports whether a block is kept, as far as the books tell: soon after the start they
// don't have all.
func (c *Cache) Has(k Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[k] != nil
}

// used notes that a block was used, in the file only now and then.
func (c *Cache) used(k Key, path string) {
	now := time.Now()
	c.mu.Lock()
	touch := false
	if e := c.byKey[k]; e != nil {
		c.order.MoveToFront(e)
		b := e.Value.(*kept)
		if touch = now.Sub(b.used) > TouchAfter; touch {
			b.used = now
		}
	}
	c.mu.Unlock()
	if touch {
		_ = os.Chtimes(path, now, now) // it only goes a little earlier than it should
	}
}

// Put keeps a verified block, which nobody may change any more. It is written in the
// background, or not at all where many come at once.
func (c *Cache) Put(k Key, data []byte) {
	if len(data) == 0 || len(data) > store.BlockSize || c.ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, under := c.soon[k]; under || c.byKey[k] != nil {
		return
	}
	if !c.pace.allows(int64(len(data)), time.Now()) {
		return
	}
	select {
	case c.waiting <- block{k, data}:
		c.soon[k] = struct{}{}
	default: // the disk is slower than what comes in
	}
}

// Drop gives up a block.
func (c *Cache) Drop(k Key) {
	c.forget(k)
	_ = os.Remove(c.path(k)) // a file that stays is wrong again when it is next read
}

func (c *Cache) forget(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		c.order.Remove(e)
		delete(c.byKey, k)
		c.bytes -= e.Value.(*kept).size
	}
}

// Size tells how many blocks are kept, and the bytes that they take.
func (c *Cache) Size() (blocks int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey), c.bytes
}

// run writes, and trims.
func (c *Cache) run() {
	c.find()
	c.trim(0)
	tick := time.NewTicker(TrimEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
			c.trim(0)
		case b := <-c.waiting:
			c.keep(b)
			c.mu.Lock()
			delete(c.soon, b.key)
			c.mu.Unlock()
		}
	}
}

// keep writes one block, if there is room for it.
func (c *Cache) keep(b block) {
	size := onDisk(int64(len(b.data)))
	if !c.trim(size) {
		return
	}
	path := c.path(b.key)
	if err := write(path, b.data); err != nil {
		_ = os.Remove(path)
		if !errors.Is(err, unix.ENOSPC) {
			c.o.Log.WithField("file", path).WithError(err).Debug("block not kept")
		}
		return
	}
	c.add(b.key, size, time.Now(), true)
}

// add takes a file into the books.
func (c *Cache) add(k Key, size int64, used time.Time, front bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[k] != nil {
		return
	}
	b := &kept{k, size, used}
	if front {
		c.byKey[k] = c.order.PushFront(b)
	} else {
		c.byKey[k] = c.order.PushBack(b)
	}
	c.bytes += size
}

// trim drops blocks until another of the given size fits under the cap and above the
// floor; false if it can't be made to.
func (c *Cache) trim(size int64) bool {
	freed := int64(0)
	free, err := c.o.Available()
	if err != nil {
		return false
	}
	for passed := 0; ; {
		c.mu.Lock()
		over := c.bytes+size > c.o.Bytes || size > 0 && len(c.byKey) >= MaxFiles
		c.mu.Unlock()
		low := free+freed-size < c.o.Floor+FloorMargin
		if !over && !low {
			// Filesystems may free late what was deleted: they have the last word.
			if freed > 0 && size > 0 {
				free, err = c.o.Available()
				return err == nil && free-size >= c.o.Floor
			}
			return true
		}
		k, bytes, ok := c.oldest()
		if !ok || passed >= SpareTries || c.ctx.Err() != nil {
			return false
		}
		if !c.o.Spare(k.Crate) {
			passed++
			c.pass(k)
			continue
		}
		passed = 0
		c.Drop(k)
		freed += bytes
	}
}

func (c *Cache) oldest() (k Key, size int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.order.Back()
	if e == nil {
		return k, 0, false
	}
	b := e.Value.(*kept)
	return b.key, b.size, true
}

// pass has a block that can't be spared asked about last.
func (c *Cache) pass(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		c.order.MoveToFront(e)
	}
}

func (c *Cache) path(k Key) string { return filepath.Join(c.o.Dir, folder(k.Crate), name(k)) }

func onDisk(n int64) int64 { return (n + unit - 1) / unit * unit }
