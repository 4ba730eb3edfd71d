package container

import (
	"errors"
	"fmt"
	"io"
)

// volume is the file as pages.
type volume struct {
	f     file
	key   *keyer
	limit int64 // pages the file may have
}

// readPages fills buf, whole pages, from page on. What lies past the end of the
// file reads as zeros.
func (v *volume) readPages(buf []byte, page int64) error {
	n, err := v.f.ReadAt(buf, page*PageSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read page %d: %w", page, err)
	}
	clear(buf[n:])
	return nil
}

func (v *volume) writePages(buf []byte, page int64) error {
	if page < 0 || page+int64(len(buf)/PageSize) > v.limit {
		return fmt.Errorf("write page %d: past the capacity of %d pages", page, v.limit)
	}
	if _, err := v.f.WriteAt(buf, page*PageSize); err != nil {
		return fmt.Errorf("write page %d: %w", page, err)
	}
	return nil
}

// extentIO calls do for each piece of the bytes off..off+len(p) of a row of
// extents, with where the piece lies in the file.
func extentIO(es []extent, p []byte, off int64, do func(p []byte, at int64) error) error {
	for _, e := range es {
		if len(p) == 0 {
			return nil
		}
		size := e.pages * PageSize
		if off >= size {
			off -= size
			continue
		}
		n := min(size-off, int64(len(p)))
		if err := do(p[:n], e.start*PageSize+off); err != nil {
			return err
		}
		p, off = p[n:], 0
	}
	if len(p) > 0 {
		return errors.New("past the end of the extents")
	}
	return nil
}

// writeData writes p to offset off of a crate's data.
func (v *volume) writeData(data []extent, p []byte, off int64) error {
	return extentIO(data, p, off, func(p []byte, at int64) error {
		if _, err := v.f.WriteAt(p, at); err != nil {
			return fmt.Errorf("write at offset %d: %w", at, err)
		}
		return nil
	})
}

// batchWriter writes pages that lie next to each other together.
type batchWriter struct {
	v     *volume
	start int64
	buf   []byte
}

func (w *batchWriter) write(page int64, raw []byte) error {
	if len(w.buf) > 0 && (page != w.start+int64(len(w.buf)/PageSize) || len(w.buf) >= readWindow) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.buf) == 0 {
		w.start = page
	}
	w.buf = append(w.buf, raw...)
	return nil
}

func (w *batchWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.v.writePages(w.buf, w.start)
	w.buf = w.buf[:0]
	return err
}

// pageReader reads single pages through a window, so that those that lie in a
// row are read together.
type pageReader struct {
	v     *volume
	start int64
	buf   []byte
}

// read gives the raw page; it is good until the next read.
func (r *pageReader) read(page int64) ([]byte, error) {
	if n := int64(len(r.buf)) / PageSize; page < r.start || page >= r.start+n {
		size := int64(readWindow)
		// Alone until pages turn out to lie in a row.
		if page != r.start+n {
			size = PageSize
		}
		if int64(cap(r.buf)) < size {
			r.buf = make([]byte, size)
		}
		r.buf, r.start = r.buf[:size], page
		if err := r.v.readPages(r.buf, page); err != nil {
			r.buf = r.buf[:0]
			return nil, err
		}
	}
	at := (page - r.start) * PageSize
	return r.buf[at : at+PageSize], nil
}
