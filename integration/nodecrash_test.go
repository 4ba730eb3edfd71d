package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

const (
	// churnRounds is how often the daemon or, by turns, the power goes on each filesystem,
	// churnSoak with full counts.
	churnRounds, churnSoak = 4, 100
	// churnEmpty: after each so many rounds, and after the last, everything is deleted.
	churnEmpty = 3
	// churnWorkers work at once, on churnFiles files each.
	churnWorkers, churnFiles = 3, 8
	// churnAfter is the longest that they work, churnAgain the longest that the daemon has
	// for what it finds afterwards, or for what was deleted, before it goes again.
	churnAfter, churnAgain = 2 * time.Second, 400 * time.Millisecond
	// churnDisk is the size of the filesystem, in bytes; it has room for the bodies that
	// cuts leave set aside.
	churnDisk = 8 << 30
	// churnNear is the capacity of the directory node, in bytes, and churnBox that of the
	// container, which has room for all files two or three times.
	churnNear, churnBox = 512 << 20, 64 << 20
	// churnLarge is the size from which on a file is sure to be adopted, and to go to the
	// container by itself; smaller ones share batches. churnLargest is the largest.
	churnLarge, churnLargest = 300_000, 4 << 20
	// churnBoxOpen is what an empty container in use takes on the disk at most, in bytes: its
	// log, and some of what was freed last. churnBoxShut is how long it is when closed.
	churnBoxOpen, churnBoxShut = 6 << 20, 2 << 20
)

// The daemon is killed, or the power goes, amid puts, adoptions and discards, with a
// container so small that its pages are used again all the time. What was acknowledged is
// there, what is served is whole, and both nodes have what the ledger says. When
// everything has been deleted they have their space back, to the last byte.
func TestNodeCrash(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			c := newChurn(t, kind)
			rounds := harness.Count(churnRounds, churnSoak)
			for n := 1; n <= rounds; n++ {
				c.round(n)
				if n%churnEmpty == 0 || n == rounds {
					c.empty()
				}
			}
			c.vault.Unmount()
			t.Logf("%d kills, %d cuts; acknowledged: %d by close, rename or remove, %d by fsync, %d with %d MiB by wait",
				c.kills, c.cuts, c.closed.Load(), c.synced.Load(), c.waited.Load(), c.bytes.Load()>>20)
		})
	}
}

// churn is a vault with two nodes on one disk, and the programs that work on it.
type churn struct {
	t           *testing.T
	rand        *rand.Rand
	disk        *harness.Disk
	vault       *harness.Vault
	near, box   string         // where the nodes are
	first       []harness.Node // what they said when nothing had been written
	workers     []*churnWorker
	going, gone atomic.Bool // what fails from now on may; what is answered from now on never would be
	kills, cuts int
	emptied     int // how often everything was deleted

	closed, synced, waited, bytes atomic.Int64
}

func newChurn(t *testing.T, kind string) *churn {
	c := &churn{t: t, rand: harness.Rand(t), disk: harness.NewDisk(t, kind, churnDisk)}
	c.vault = harness.NewVaultAt(t, filepath.Join(c.disk.Point, "state"))
	c.near, c.box = filepath.Join(c.disk.Point, "near"), filepath.Join(c.disk.Point, "box")
	node := "[[node]]\nname = %q\nkind = %q\npath = %q\ncapacity = \"%d\"\n"
	c.vault.Settings("copies = 2\n"+node+node, "near", "directory", c.near, churnNear, "box", "container", c.box, churnBox)
	harness.Must(t, "sync", "-f", c.vault.State) // what a person has written is long on the disk
	c.vault.Start()
	for i := range churnWorkers {
		w := &churnWorker{churn: c, dir: harness.Mkdir(t, c.vault.Path(fmt.Sprintf("w%d", i))), seed: c.rand.Uint64()}
		w.rand = rand.New(rand.NewPCG(w.seed, 0))
		for j := range churnFiles {
			w.files = append(w.files, &churnFile{path: filepath.Join(w.dir, fmt.Sprintf("f%d", j)), states: []churnState{{}}})
		}
		c.workers = append(c.workers, w)
		harness.Must(t, "sync", w.dir)
	}
	harness.Eventually(t, settleLimit, "two empty nodes", func() (bool, string) {
		c.first = c.figures()
		a, b := c.first[0], c.first[1]
		return a.State == "online" && b.State == "online" && a.Crates+b.Crates+a.Bytes+b.Bytes+a.Reserved+b.Reserved == 0, fmt.Sprintf("%+v", c.first)
	})
	return c
}

// figures is what the nodes say that must be as it was when nothing is left.
func (c *churn) figures() (all []harness.Node) {
	for _, n := range c.vault.Status().Nodes {
		n.LastError, n.Warning = "", ""
		all = append(all, n)
	}
	return all
}

// round works, has the daemon or the power go, and compares.
func (c *churn) round(number int) {
	cut := number%2 == 0
	var working sync.WaitGroup
	for _, w := range c.workers {
		working.Go(w.work)
	}
	how := fmt.Sprintf("round %d: %s", number, c.strike(cut, churnAfter, &working))
	if c.rand.IntN(2) == 0 {
		how += ", then " + c.strike(false, churnAgain, &working)
	}
	c.compare(how, cut)
	c.check()
	c.compare(how+", settled", false) // from the nodes, as far as bodies have gone
	n := c.figures()[1]
	c.t.Logf("%s: all is there, %d crates with %d MiB", how, n.Crates, n.Bytes>>20)
}

// strike has the daemon or the power go within some time, and starts again when whoever
// works has noticed.
func (c *churn) strike(cut bool, within time.Duration, working *sync.WaitGroup) string {
	c.t.Helper()
	after := time.Duration(c.rand.Int64N(int64(within)))
	time.Sleep(after)
	c.going.Store(true)
	if cut {
		c.gone.Store(true)
		c.disk.Cut()
		time.Sleep(time.Duration(c.rand.Int64N(int64(cutLinger))))
	}
	c.vault.Kill()
	working.Wait()
	how := "killed"
	if cut {
		how = "cut"
		c.vault.Detach()
		c.disk.Unmount()
		c.disk.Mount()
		c.cuts++
	} else {
		c.kills++
	}
	c.vault.Start()
	c.going.Store(false)
	c.gone.Store(false)
	return fmt.Sprintf("%s after %s", how, after.Round(time.Millisecond))
}

func (c *churn) compare(how string, cut bool) {
	c.t.Helper()
	for _, w := range c.workers {
		if err := w.compare(cut); err != nil {
			c.t.Errorf("%s: %v", how, err)
		}
	}
	if c.t.Failed() {
		c.t.Fatalf("the status is %+v", c.vault.Status())
	}
}

// check waits for every copy and has every byte on the nodes read.
func (c *churn) check() {
	c.t.Helper()
	harness.Eventually(c.t, placeLimit, "every copy", func() (bool, string) {
		r := c.vault.Stasis("wait", c.vault.Point)
		return r.Code == 0, r.String()
	})
	c.vault.OK("check", "--read", c.vault.Point)
}

// empty deletes everything and checks that nothing is left on the nodes. By turns it is
// struck amid the discards, or not: a start would put in order what they left undone.
func (c *churn) empty() {
	c.t.Helper()
	c.deleteAll()
	if c.emptied++; c.emptied%2 == 0 {
		cut := c.rand.IntN(2) == 0
		c.compare("deleted, "+c.strike(cut, churnAgain, &sync.WaitGroup{}), cut)
		c.deleteAll() // what a cut has brought back
	}
	c.check()
	c.haveNothing("in use", false)
	harness.Eventually(c.t, settleLimit, "no file left", func() (bool, string) {
		left := harness.Must(c.t, "find", filepath.Join(c.near, "crates"), filepath.Join(c.near, "tmp"), "-ignore_readdir_race", "-type", "f")
		// Empty bodies are there for new files, and those set aside for a person to look at.
		left += harness.Must(c.t, "find", filepath.Join(c.vault.State, "bodies"), "-ignore_readdir_race", "-name", "aside", "-prune", "-o", "-type", "f", "-size", "+0c", "-print")
		return left == "", left
	})
	harness.Eventually(c.t, settleLimit, "a small container", func() (bool, string) {
		var st unix.Stat_t
		must(c.t, unix.Stat(c.box, &st))
		// XFS allots room past the end of a file that grows, as much as it likes.
		return c.disk.Kind == "xfs" || st.Blocks*512 <= churnBoxOpen, fmt.Sprintf("%d bytes on the disk, %d long", st.Blocks*512, st.Size)
	})
	c.vault.Unmount()
	if length := size(c.t, c.box); length > churnBoxShut {
		c.t.Fatalf("closed and empty, the container has %d bytes", length)
	}
	c.vault.Start()
	c.haveNothing("started anew", true)
}

// haveNothing waits for the figures of the beginning. Where a crate was sent again that had
// been there, its space may be called reserved until the grant is next spoken of: at a start,
// or in a quarter of an hour.
func (c *churn) haveNothing(when string, exact bool) {
	c.t.Helper()
	harness.Eventually(c.t, settleLimit, "the figures of two empty nodes "+when, func() (bool, string) {
		now := c.figures()
		for i := range now {
			if !exact {
				now[i].Free, now[i].Reserved = now[i].Free+now[i].Reserved, 0
			}
		}
		return slices.Equal(now, c.first), fmt.Sprintf("%+v, were %+v", now, c.first)
	})
}

func (c *churn) deleteAll() {
	c.t.Helper()
	for _, w := range c.workers {
		for _, f := range w.files {
			if f.now().version > 0 {
				f.begin(churnState{})
				must(c.t, w.answer(f, os.Remove(f.path)))
			}
		}
	}
}

// churnState is what a name led to at some time.
type churnState struct {
	version int  // of the content; 0: there is no such file
	open    bool // it is written under this name, and may be found half written until it is closed
	fresh   bool // nothing was there before: the name may survive a cut without the content
}

// churnFile is a name and what it may lead to.
type churnFile struct {
	path     string
	states   []churnState // the first is durable, each later one began when the one before had been answered
	answered int          // the last one that was
}

func (f *churnFile) now() churnState { return f.states[len(f.states)-1] }

func (f *churnFile) begin(s churnState) {
	s.fresh = f.now().version == 0
	f.states = append(f.states, s)
}

// settle notes that what is there survives everything.
func (f *churnFile) settle(version int) { f.states, f.answered = []churnState{{version: version}}, 0 }

// churnWorker is a program that works in a directory of its own and knows what it was told.
type churnWorker struct {
	*churn
	dir     string
	rand    *rand.Rand
	seed    uint64 // of all contents
	version int    // the last one that was made
	files   []*churnFile
}

// work works until something fails, as it does when the daemon is gone.
func (w *churnWorker) work() {
	for {
		f := w.files[w.rand.IntN(len(w.files))]
		steps := []func(*churnFile) error{w.rewrite, w.rewrite, w.swap, w.swap, w.swap, w.drop, w.look, w.await, w.await}
		err := steps[w.rand.IntN(len(steps))](f)
		if err == nil {
			continue
		}
		if !w.going.Load() {
			w.t.Errorf("%s: %v, after: %+v", f.path, err, f.states)
		}
		return
	}
}

// answer takes what a call that changes a file was answered.
func (w *churnWorker) answer(f *churnFile, err error) error {
	if err == nil {
		f.answered = len(f.states) - 1
		w.closed.Add(1)
	}
	return err
}

// durable takes the answer of a call that makes a file durable. A disk whose power goes by
// command may say that it has synced what it never will.
func (w *churnWorker) durable(f *churnFile, err error, count *atomic.Int64) error {
	if err == nil && w.gone.Load() {
		err = errors.New("the answer came after the power had gone")
	}
	if err == nil {
		f.settle(f.now().version)
		count.Add(1)
	}
	return err
}

// content is that of a version: what it is in the first line, then bytes that are nowhere
// else.
func (w *churnWorker) content(version int) []byte {
	r := rand.New(rand.NewPCG(w.seed, uint64(version)))
	n := 1 + r.IntN([]int{200, 64 << 10, churnLarge, churnLargest}[r.IntN(4)])
	data := harness.Bytes(r.Uint64(), n)
	copy(data, fmt.Sprintf("%s version %d of %d bytes\n", filepath.Base(w.dir), version, n))
	return data
}

// rewrite empties a file, or makes it, and writes it.
func (w *churnWorker) rewrite(f *churnFile) error {
	w.version++
	f.begin(churnState{version: w.version, open: true})
	if err := w.answer(f, os.WriteFile(f.path, w.content(w.version), 0o644)); err != nil || w.rand.IntN(3) > 0 {
		return err
	}
	return w.sync(f, f.path)
}

// swap is how careful programs save: a new file, then a rename over the old one.
func (w *churnWorker) swap(f *churnFile) error {
	w.version++
	temp := filepath.Join(w.dir, fmt.Sprintf("t%d", w.version))
	if err := os.WriteFile(temp, w.content(w.version), 0o644); err != nil {
		return err
	}
	f.begin(churnState{version: w.version})
	if err := w.answer(f, os.Rename(temp, f.path)); err != nil || w.rand.IntN(3) > 0 {
		return err
	}
	return w.sync(f, f.path)
}

// drop deletes a file.
func (w *churnWorker) drop(f *churnFile) error {
	if f.now().version == 0 {
		return nil
	}
	f.begin(churnState{})
	if err := w.answer(f, os.Remove(f.path)); err != nil || w.rand.IntN(2) == 0 {
		return err
	}
	return w.sync(f, w.dir)
}

// sync makes a file durable by an fsync of the file or of its directory.
func (w *churnWorker) sync(f *churnFile, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return w.durable(f, file.Sync(), &w.synced)
}

// await waits until a file is on both nodes.
func (w *churnWorker) await(f *churnFile) error {
	if f.now().version == 0 {
		return nil
	}
	r, err := w.vault.Ask("wait", "--timeout", "30s", f.path)
	if err == nil && r.Code == 4 && strings.Contains(r.Stderr, "no room") {
		return nil // the container is full of what was replaced just now
	}
	if err == nil && r.Code != 0 {
		err = errors.New(r.String())
	}
	if err = w.durable(f, err, &w.waited); err == nil {
		w.bytes.Add(int64(len(w.content(f.now().version))))
	}
	return err
}

// look reads a file, wherever its content is just now.
func (w *churnWorker) look(f *churnFile) error {
	data, err := os.ReadFile(f.path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if v := f.now().version; (v > 0) != (err == nil) || v > 0 && !bytes.Equal(data, w.content(v)) {
		w.t.Errorf("%s: %v, read: %s", f.path, f.states, w.describe(data))
	}
	return nil
}

// compare checks every name and content against what the worker was told. What is whole is
// where it begins again, and the rest is deleted.
func (w *churnWorker) compare(cut bool) error {
	for _, name := range names(w.t, w.dir) {
		version, path := 0, filepath.Join(w.dir, name)
		if _, err := fmt.Sscanf(name, "t%d", &version); err != nil {
			continue
		}
		// It was to be renamed; its content is as far as it had come.
		data, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(w.content(version), data) || !cut && version != w.version {
			return fmt.Errorf("%s, where version %d was the last: %s, %v", path, w.version, w.describe(data), err)
		}
		must(w.t, os.Remove(path))
	}
	for _, f := range w.files {
		data, err := os.ReadFile(f.path)
		there := err == nil
		if !there && !os.IsNotExist(err) {
			return err
		}
		version, ok := w.allowed(f, data, there, cut)
		if !ok {
			return fmt.Errorf("%s, there: %v: %s; the first of these is durable, and number %d was answered: %+v", f.path, there, w.describe(data), f.answered, f.states)
		}
		if there && version == 0 {
			must(w.t, os.Remove(f.path))
		}
		f.settle(version)
	}
	harness.Must(w.t, "sync", w.dir)
	return nil
}

// allowed reports whether a file may be as it was found, and which whole version it is; 0:
// none.
func (w *churnWorker) allowed(f *churnFile, data []byte, there, cut bool) (version int, ok bool) {
	may := f.states[f.answered:]
	if cut {
		may = f.states
	}
	for i, s := range may {
		content := w.content(s.version)
		switch {
		case !there || s.version == 0:
			ok = ok || there == (s.version > 0)
		case bytes.Equal(data, content):
			return s.version, true
		case len(data) == 0 && cut && i > 0 && s.fresh:
			ok = true
		case i == len(may)-1 && f.answered < len(f.states)-1 && s.open:
			ok = ok || bytes.HasPrefix(content, data)
		}
	}
	return 0, ok
}

// describe tells what some bytes are.
func (w *churnWorker) describe(data []byte) string {
	var version int
	line, _, _ := strings.Cut(string(data[:min(len(data), 64)]), "\n")
	text := fmt.Sprintf("%d bytes, which begin %q", len(data), line)
	if _, err := fmt.Sscanf(line, filepath.Base(w.dir)+" version %d ", &version); err != nil {
		return text
	}
	want, at := w.content(version), 0
	for at < min(len(want), len(data)) && want[at] == data[at] {
		at++
	}
	return fmt.Sprintf("%s and are that version's for the first %d", text, at)
}
