package fs

import (
	"context"
	"syscall"

	"stasis/fs/names"
)

// place is where a walk found an inode. What lies in one directory shares that directory's
// place: of a tree in which each directory lies in another the paths would be as long as the
// square of its depth, its places are as long as its names.
type place struct {
	up   *place // the directory; nil where the walk began
	name string // in up; the path of where the walk began
}

// String is the path. One that is longer than maxPath has names in its middle left out.
func (p *place) String() string {
	length := 0
	for q := p; q != nil; q = q.up {
		length += q.size()
	}
	room := length
	if length > maxPath {
		room = maxPath + len(cutPath)
	}
	b := make([]byte, room)
	at, end := room, length // what is written begins at; the name of q ends at end of the path
	for q := p; q != nil; q = q.up {
		begin := end - q.size()
		switch tail := length - maxPath/2; {
		case length <= maxPath || end <= maxPath/2 || begin >= tail:
			at -= q.size()
			copy(b[at:], "/")
			copy(b[at+q.size()-len(q.name):], q.name)
		case end >= tail:
			at -= len(cutPath)
			copy(b[at:], cutPath)
		}
		end = begin
	}
	return string(b[at:])
}

// size is what the path gets longer by, in bytes.
func (p *place) size() int {
	if p.up == nil {
		return len(p.name)
	}
	return 1 + len(p.name)
}

// cutPath stands for names that are left out of a path.
const cutPath = "/…"

// walk runs fn over an inode, whose path is given, and everything below it, directories before
// what is in them. What is made, moved or removed meanwhile may be seen or not. It takes memory
// as the tree has depth.
func (s *FS) walk(ctx context.Context, ino names.Ino, path string, fn func(at *place, in names.Inode) error) error {
	w := walker{s: s, fn: fn}
	if err := w.visit(ino, &place{name: path}); err != nil {
		return err
	}
	if path == "/" && len(w.open) > 0 {
		w.open[0].at = &place{} // the paths of what lies in it begin with its slash
	}
	for len(w.open) > 0 {
		d := &w.open[len(w.open)-1]
		e, ok, err := w.next(d)
		if err != nil {
			return err
		}
		if !ok {
			w.open = w.open[:len(w.open)-1]
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.visit(e.Ino, &place{d.at, e.Name}); err != nil {
			return err
		}
	}
	return nil
}

type walker struct {
	s    *FS
	fn   func(at *place, in names.Inode) error
	open []openDir // from where the walk began to where it is
}

// openDir is a directory that a walk is in.
type openDir struct {
	at     *place
	ino    names.Ino
	cookie uint64        // of the entry seen last
	last   uint64        // no entry behind it was there when the directory was come to
	page   []names.Entry // that were read ahead
}

// visit runs fn over an inode, and goes into it if it is a directory.
func (w *walker) visit(ino names.Ino, at *place) error {
	in, err := w.s.tree.Get(ino)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.fn(at, in); err != nil || !in.IsDir() {
		return err
	}
	if n := len(w.open); n > walkPages {
		w.open[n-1].page = nil // it is read again
	}
	w.open = append(w.open, openDir{at: at, ino: ino, last: w.s.tree.LastCookie()})
	return nil
}

// next gives the next entry of a directory; ok is false at its end.
func (w *walker) next(d *openDir) (e names.Entry, ok bool, err error) {
	if len(d.page) == 0 {
		d.page, err = w.s.tree.ReadDir(d.ino, d.cookie, extentsPerScan)
		if err == syscall.ENOENT || err == nil && len(d.page) == 0 {
			return e, false, nil
		}
		if err != nil {
			return e, false, err
		}
	}
	e, d.page = d.page[0], d.page[1:]
	d.cookie = e.Cookie
	return e, e.Cookie <= d.last, nil
}
