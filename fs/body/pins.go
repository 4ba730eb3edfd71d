package body

import (
	"os"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Pinned is a body's file that is open to be read. While it is, no other content comes into that
// file: it is removed when the body is not needed any more, and not used again.
type Pinned struct {
	*os.File
	d  *Dir
	id store.CrateID
}

// Open opens the file of a body to be read; an error that is os.ErrNotExist if there is none.
func (d *Dir) Open(id store.CrateID) (*Pinned, error) {
	path := d.Path(id)
	d.mu.Lock()
	if _, going := d.going[id]; going {
		d.mu.Unlock()
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	d.pins[id]++
	d.mu.Unlock()
	f, err := openFile(path, unix.O_RDONLY)
	if err != nil {
		d.unpin(id)
		return nil, err
	}
	return &Pinned{f, d, id}, nil
}

// Close ends the reading.
func (p *Pinned) Close() error {
	err := p.File.Close()
	if err == nil { // once
		p.d.unpin(p.id)
	}
	return err
}

func (d *Dir) unpin(id store.CrateID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pins[id]--; d.pins[id] <= 0 {
		delete(d.pins, id)
	}
}
