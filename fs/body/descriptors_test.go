package body

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Bodies have no more files open than they may: the next is told so, takes no spare with it,
// and comes to its file once another has given one up.
func TestTooManyOpenFiles(t *testing.T) {
	d := openDir(t)
	d.mostOpen = 3
	first, second := mustCreate(t, d, false), mustCreate(t, d, true) // two files and one
	must(t, d.Prepare(1))
	if !d.Full() {
		t.Error("three of three files are open and there is room")
	}
	for range 2 {
		if b, err := d.Create(true); !errors.Is(err, unix.ENFILE) {
			t.Fatalf("a fourth file: %v, %v", b, err)
		}
	}
	if len(d.spares) != 1 {
		t.Errorf("%d spares are left of one", len(d.spares))
	}
	must(t, second.Release())
	if d.Full() {
		t.Error("two of three files are open and there is no room")
	}
	third := mustCreate(t, d, true)
	if err := second.Write(page(1), 0); !errors.Is(err, unix.ENFILE) {
		t.Errorf("a write to a file that can't be opened: %v", err)
	}
	must(t, third.Release())
	must(t, second.Write(page(1), 0))
	must(t, first.Release())
	must(t, second.Release())
	if n := d.opened.Load(); n != 0 {
		t.Errorf("%d files are open after all were given up", n)
	}
}
