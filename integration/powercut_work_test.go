package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// cutWorker is one program that works in a directory of its own until the power goes, and
// knows what it was told.
type cutWorker struct {
	vault *harness.Vault
	gone  *atomic.Bool // the power is going
	dir   string       // inside the mount
	rand  *rand.Rand
	next  int // makes names and contents that never repeat

	base   namespace // as read after the last cut
	log    []nameOp  // since then
	names  namespace // base and all of log
	files  map[uint64]*cutContent
	least  int   // operations of log that must survive
	failed error // what ended it
}

// readBack takes what is there now as the durable beginning.
func (w *cutWorker) readBack() error {
	found, contents, err := w.read()
	if err != nil {
		return err
	}
	w.base, w.names, w.log, w.least = found, maps.Clone(found), nil, 0
	w.files = map[uint64]*cutContent{}
	for path, n := range found {
		if n.kind == "file" {
			w.files[n.ino] = newCutContent(strings.HasPrefix(filepath.Base(path), "p"), contents[n.ino])
		}
	}
	return nil
}

// read gives the names and contents in the directory.
func (w *cutWorker) read() (namespace, map[uint64][]byte, error) {
	found, contents := namespace{}, map[uint64][]byte{}
	err := filepath.WalkDir(w.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == w.dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("stat %s: %w", path, err)
		}
		n := cutNode{ino: st.Ino, kind: kindOf(st.Mode)}
		rel, err := filepath.Rel(w.dir, path)
		if err != nil {
			return err
		}
		found[rel] = n
		if n.kind == "file" && contents[n.ino] == nil {
			if contents[n.ino], err = os.ReadFile(path); err != nil {
				return err
			}
		}
		return nil
	})
	return found, contents, err
}

func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	}
	return "file"
}

// work works until something fails, as it does when the power is gone.
func (w *cutWorker) work() {
	for w.failed == nil {
		steps := []func() error{w.swap, w.swap, w.rewrite, w.patch, w.patch, w.patch, w.shuffle, w.shuffle, w.syncDir, w.durable, w.drop}
		if w.rand.IntN(40) == 0 {
			steps = []func() error{w.await}
		}
		w.failed = steps[w.rand.IntN(len(steps))]()
	}
}

// told is what an answer means that says that something is durable. One that comes while
// the power goes is none: ext4 lets a sync that is under way when it is shut down return as
// if it had been done.
func (w *cutWorker) told(err error) error {
	if err == nil && w.gone.Load() {
		err = errors.New("the answer came when the power was going")
	}
	return err
}

// name does a change of names and notes it.
func (w *cutWorker) name(text string, apply func(namespace), do func() error, inodes []uint64, paths ...string) error {
	op := nameOp{text: text, apply: apply, start: time.Now(), inodes: inodes}
	for _, p := range paths {
		op.parents = append(op.parents, filepath.Dir(p))
	}
	err := do()
	op.end, op.answered = time.Now(), err == nil
	w.log = append(w.log, op)
	apply(w.names)
	return err
}

// mustKeep notes that everything up to the last change of an inode's names survives.
func (w *cutWorker) mustKeep(ino uint64) {
	for i, op := range w.log {
		if slices.Contains(op.inodes, ino) {
			w.least = max(w.least, i+1)
		}
	}
}

func (w *cutWorker) path(rel string) string { return filepath.Join(w.dir, rel) }

func (w *cutWorker) number() int {
	w.next++
	return w.next
}

// bytes gives new content of some size.
func (w *cutWorker) bytes(most int) []byte {
	n := 1 + w.rand.IntN(most)
	if w.rand.IntN(4) > 0 {
		n = 1 + n%20_000
	}
	return harness.Bytes(w.rand.Uint64(), n)
}

// create makes a file and leaves it open.
func (w *cutWorker) create(rel string, inPlace bool) (*os.File, uint64, error) {
	var f *os.File
	n := cutNode{kind: "file"}
	// The number is known only when the call has returned.
	err := w.name("create "+rel, func(s namespace) { s[rel] = n }, func() error {
		var err error
		if f, err = os.OpenFile(w.path(rel), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644); err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		n.ino = st.Ino
		return err
	}, nil, rel)
	if err != nil {
		return nil, 0, err
	}
	w.log[len(w.log)-1].inodes = []uint64{n.ino}
	w.files[n.ino] = newCutContent(inPlace, nil)
	return f, n.ino, nil
}

// fill writes a file's whole content through a descriptor, in pieces, syncs it perhaps,
// and closes it.
func (w *cutWorker) fill(f *os.File, ino uint64, data []byte) error {
	c := w.files[ino]
	c.replace(data)
	for at := 0; at < len(data); at += 100_000 {
		if _, err := f.Write(data[at:min(at+100_000, len(data))]); err != nil {
			_ = f.Close()
			return err
		}
	}
	if w.rand.IntN(3) == 0 {
		if err := w.told(f.Sync()); err != nil {
			_ = f.Close()
			return err
		}
		c.settle("fsync")
		w.mustKeep(ino)
	}
	if err := f.Close(); err != nil {
		return err
	}
	c.finish()
	return nil
}

// swap is how careful programs save: a new file, then a rename over the old one.
func (w *cutWorker) swap() error {
	temp, to := fmt.Sprintf("t%d", w.number()), fmt.Sprintf("r%d", w.rand.IntN(4))
	f, ino, err := w.create(temp, false)
	if err != nil {
		return err
	}
	if err := w.fill(f, ino, w.bytes(3<<20)); err != nil {
		return err
	}
	inodes := []uint64{ino}
	if old, ok := w.names[to]; ok {
		// Whether the rename is answered or not, it may have been done.
		w.files[ino].inherit(w.files[old.ino])
		inodes = append(inodes, old.ino)
	}
	return w.name("rename "+temp+" to "+to, move(temp, to), func() error { return os.Rename(w.path(temp), w.path(to)) }, inodes, temp, to)
}

// some gives a name with a prefix, if there is one.
func (w *cutWorker) some(prefix string) (string, bool) {
	all := []string{}
	for _, p := range slices.Sorted(maps.Keys(w.names)) {
		if strings.HasPrefix(filepath.Base(p), prefix) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return "", false
	}
	return all[w.rand.IntN(len(all))], true
}

// rewrite is how careless programs save: they empty the file and write it.
func (w *cutWorker) rewrite() error {
	rel, ok := w.some("r")
	if !ok {
		return nil
	}
	ino := w.names[rel].ino
	// Emptied, it may be found empty while it is open.
	c := w.files[ino]
	c.torn = true
	f, err := os.OpenFile(w.path(rel), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	return w.fill(f, ino, w.bytes(1<<20))
}

// patch writes in place.
func (w *cutWorker) patch() error {
	rel, ok := w.some("p")
	var f *os.File
	var err error
	if !ok || w.rand.IntN(8) == 0 {
		rel = fmt.Sprintf("p%d", w.number())
		if f, _, err = w.create(rel, true); err != nil {
			return err
		}
	} else if f, err = os.OpenFile(w.path(rel), os.O_RDWR, 0); err != nil {
		return err
	}
	ino := w.names[rel].ino
	c := w.files[ino]
	for range 1 + w.rand.IntN(6) {
		if err := w.patchOnce(f, ino, c); err != nil {
			_ = f.Close()
			return err
		}
	}
	return f.Close()
}

func (w *cutWorker) patchOnce(f *os.File, ino uint64, c *cutContent) error {
	switch w.rand.IntN(9) {
	case 0:
		if err := w.told(f.Sync()); err != nil {
			return err
		}
		c.settle("fsync")
		w.mustKeep(ino)
		return nil
	case 1:
		if w.rand.IntN(4) > 0 {
			return nil
		}
		size := w.rand.IntN(len(c.now) + 10_000)
		c.truncate(size)
		return f.Truncate(int64(size))
	case 2:
		return w.punch(f, c)
	case 3, 4:
		data := w.bytes(100_000)
		at := len(c.now)
		c.change(at, data)
		_, err := f.WriteAt(data, int64(at))
		return err
	}
	data := w.bytes(30_000)
	at := w.rand.IntN(len(c.now) + 5000)
	if w.rand.IntN(2) == 0 {
		at = at / cutUnit * cutUnit
	}
	c.change(at, data)
	_, err := f.WriteAt(data, int64(at))
	return err
}

// punch makes a hole, or zeros with room for what may come.
func (w *cutWorker) punch(f *os.File, c *cutContent) error {
	mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	if w.rand.IntN(3) == 0 {
		mode = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
	}
	at, n := w.rand.IntN(len(c.now)+1), 1+w.rand.IntN(60_000)
	if w.rand.IntN(2) == 0 {
		at = at / cutUnit * cutUnit
	}
	c.punch(at, at+n)
	return unix.Fallocate(int(f.Fd()), mode, int64(at), int64(n))
}

// shuffle changes names.
func (w *cutWorker) shuffle() error {
	n := w.number()
	switch w.rand.IntN(5) {
	case 0:
		rel := fmt.Sprintf("d%d", n)
		if dir, ok := w.some("d"); ok && w.rand.IntN(3) == 0 && strings.Count(dir, "/") < 4 {
			rel = filepath.Join(dir, rel)
		}
		return w.name("mkdir "+rel, put(rel, cutNode{kind: "directory"}), func() error { return os.Mkdir(w.path(rel), 0o755) }, nil, rel)
	case 1:
		rel := fmt.Sprintf("s%d", n)
		return w.name("symlink "+rel, put(rel, cutNode{kind: "symlink"}), func() error { return os.Symlink("p", w.path(rel)) }, nil, rel)
	case 2:
		from, ok := w.some("p")
		if !ok {
			return nil
		}
		to := fmt.Sprintf("pl%d", n)
		was := w.names[from]
		return w.name("link "+from+" to "+to, put(to, was), func() error { return os.Link(w.path(from), w.path(to)) }, []uint64{was.ino}, to)
	}
	kind := []string{"p", "d", "r"}[w.rand.IntN(3)]
	from, ok := w.some(kind)
	if !ok {
		return nil
	}
	to := fmt.Sprintf("%sm%d", kind, n)
	if dir, ok := w.some("d"); ok && w.rand.IntN(2) == 0 && dir != from && !strings.HasPrefix(dir, from+"/") {
		to = filepath.Join(dir, to)
	}
	return w.name("rename "+from+" to "+to, move(from, to), func() error { return os.Rename(w.path(from), w.path(to)) }, []uint64{w.names[from].ino}, from, to)
}

// drop removes something.
func (w *cutWorker) drop() error {
	rel, ok := w.some([]string{"p", "s", "d", "r"}[w.rand.IntN(4)])
	if !ok || len(w.names) < 20 {
		return nil
	}
	for p := range w.names {
		if strings.HasPrefix(p, rel+"/") {
			return nil // not empty
		}
	}
	return w.name("remove "+rel, remove(rel), func() error { return os.Remove(w.path(rel)) }, []uint64{w.names[rel].ino}, rel)
}

// syncDir syncs a directory: its names survive.
func (w *cutWorker) syncDir() error {
	rel := "."
	if dir, ok := w.some("d"); ok && w.rand.IntN(2) == 0 {
		rel = dir
	}
	f, err := os.Open(w.path(rel))
	if err != nil {
		return err
	}
	defer f.Close()
	at := len(w.log)
	if err := w.told(f.Sync()); err != nil {
		return err
	}
	for i, op := range w.log[:at] {
		if slices.Contains(op.parents, rel) {
			w.least = max(w.least, i+1)
		}
	}
	return nil
}

// durable looks whether a file is said to be durable, and holds the vault to it.
func (w *cutWorker) durable() error {
	rel, ok := w.some([]string{"p", "r"}[w.rand.IntN(2)])
	if !ok {
		return nil
	}
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(w.path(rel), "user.stasis.state", buf)
	if err := w.told(err); err != nil {
		return err
	}
	if string(buf[:n]) == "durable" {
		w.keep(rel, "state")
	}
	return nil
}

// await waits for a file's copies.
func (w *cutWorker) await() error {
	rel, ok := w.some([]string{"p", "r"}[w.rand.IntN(2)])
	if !ok {
		return nil
	}
	r, err := w.vault.Ask("wait", "--timeout", "20s", w.path(rel))
	if err := w.told(err); err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("wait: %v", r)
	}
	w.keep(rel, "wait")
	return nil
}

func (w *cutWorker) keep(rel, how string) {
	ino := w.names[rel].ino
	w.files[ino].settle(how)
	w.mustKeep(ino)
}
