package harness

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Comparison is what a comparison of two trees saw.
type Comparison struct {
	Files       int
	Differences []string
	Slowest     time.Duration // the longest that one operation on the second tree took
	SlowestAt   string
}

// CompareTrees compares two trees: names, types, modes, sizes, times of files, link
// targets and contents. It measures each operation on the second.
func CompareTrees(want, got string) (Comparison, error) {
	c := Comparison{}
	err := c.directory(want, got, ".")
	return c, err
}

// SameTrees fails the test where trees differ.
func SameTrees(t testing.TB, want, got string) Comparison {
	t.Helper()
	c, err := CompareTrees(want, got)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Differences {
		t.Errorf("%s and %s differ: %s", want, got, d)
	}
	return c
}

func (c *Comparison) differ(format string, args ...any) {
	if len(c.Differences) < maxDifferences {
		c.Differences = append(c.Differences, fmt.Sprintf(format, args...))
	}
}

// timed does something to the second tree. What goes wrong there is a difference.
func (c *Comparison) timed(path string, do func() error) bool {
	start := time.Now()
	err := do()
	if took := time.Since(start); took > c.Slowest {
		c.Slowest, c.SlowestAt = took, path
	}
	if err != nil {
		c.differ("%s: %v", path, err)
	}
	return err == nil
}

func (c *Comparison) directory(want, got, rel string) error {
	wants, err := os.ReadDir(filepath.Join(want, rel))
	if err != nil {
		return err
	}
	var gots []fs.DirEntry
	if !c.timed(rel, func() (err error) { gots, err = os.ReadDir(filepath.Join(got, rel)); return err }) {
		return nil
	}
	there := map[string]bool{}
	for _, g := range gots {
		there[g.Name()] = true
	}
	for _, w := range wants {
		if !there[w.Name()] {
			c.differ("%s is missing", filepath.Join(rel, w.Name()))
			continue
		}
		delete(there, w.Name())
		if err := c.entry(want, got, filepath.Join(rel, w.Name())); err != nil {
			return err
		}
	}
	for name := range there {
		c.differ("%s is too much", filepath.Join(rel, name))
	}
	return nil
}

func (c *Comparison) entry(want, got, rel string) error {
	w, err := os.Lstat(filepath.Join(want, rel))
	if err != nil {
		return err
	}
	var g fs.FileInfo
	if !c.timed(rel, func() (err error) { g, err = os.Lstat(filepath.Join(got, rel)); return err }) {
		return nil
	}
	if w.Mode() != g.Mode() {
		c.differ("%s has mode %v, want %v", rel, g.Mode(), w.Mode())
		return nil
	}
	switch {
	case w.IsDir():
		return c.directory(want, got, rel)
	case w.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(filepath.Join(want, rel))
		c.timed(rel, func() error {
			other, err := os.Readlink(filepath.Join(got, rel))
			if err == nil && other != target {
				err = fmt.Errorf("leads to %q, want %q", other, target)
			}
			return err
		})
		return err
	case !w.Mode().IsRegular():
		return nil
	}
	c.Files++
	if w.Size() != g.Size() || !w.ModTime().Equal(g.ModTime()) {
		c.differ("%s has %d bytes of %v, want %d of %v", rel, g.Size(), g.ModTime(), w.Size(), w.ModTime())
		return nil
	}
	return c.content(want, got, rel)
}

func (c *Comparison) content(want, got, rel string) error {
	w, err := os.Open(filepath.Join(want, rel))
	if err != nil {
		return err
	}
	defer w.Close()
	var g *os.File
	if !c.timed(rel, func() (err error) { g, err = os.Open(filepath.Join(got, rel)); return err }) {
		return nil
	}
	defer g.Close()
	a, b := make([]byte, compareBuffer), make([]byte, compareBuffer)
	for at := int64(0); ; at += int64(len(a)) {
		na, err := io.ReadFull(w, a)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		var nb int
		if !c.timed(rel, func() error {
			var err error
			if nb, err = io.ReadFull(g, b); err == io.EOF || err == io.ErrUnexpectedEOF {
				err = nil
			}
			return err
		}) {
			return nil
		}
		if !bytes.Equal(a[:na], b[:nb]) {
			c.differ("%s differs in the MiB at %d", rel, at)
			return nil
		}
		if na < len(a) {
			return nil
		}
	}
}
