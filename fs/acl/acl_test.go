package acl

import (
	"bytes"
	"reflect"
	"syscall"
	"testing"
)

// full is a list with one entry of each kind and two users.
var full = List{{UserObj, 7, 0}, {User, 6, 1000}, {User, 4, 1001}, {GroupObj, 5, 0}, {Group, 7, 50}, {Mask, 6, 0}, {Other, 1, 0}}

var minimal = List{{UserObj, 6, 0}, {GroupObj, 4, 0}, {Other, 0, 0}}

// The bytes are those that setfacl gives the kernel for u::rw-,u:1000:r--,g::r--,m::r--,o::-.
func TestValue(t *testing.T) {
	value := []byte{2, 0, 0, 0,
		1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
		0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
	l, err := Parse(value)
	if err != nil {
		t.Fatal(err)
	}
	if l.Minimal() || l.Mode(0o100755) != 0o100640 || l[1].ID != 1000 {
		t.Errorf("it reads %v, mode %o", l, l.Mode(0o100755))
	}
	if !bytes.Equal(l.Value(), value) {
		t.Errorf("it writes %x", l.Value())
	}
	for _, l := range []List{full, minimal} {
		back, err := Parse(l.Value())
		if err != nil || back.Mode(0) != l.Mode(0) || !bytes.Equal(back.Value(), l.Value()) {
			t.Errorf("%v comes back as %v, %v", l, back, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	spoilt := func(change func(List) List) []byte {
		return change(append(List(nil), full...)).Value()
	}
	for name, value := range map[string][]byte{
		"nothing":        nil,
		"no entries":     {2, 0, 0, 0},
		"other version":  append([]byte{1}, full.Value()[1:]...),
		"half an entry":  full.Value()[:len(full.Value())-1],
		"no others":      spoilt(func(l List) List { return l[:6] }),
		"no owner":       spoilt(func(l List) List { return l[1:] }),
		"no group":       spoilt(func(l List) List { return append(l[:3], l[4:]...) }),
		"no mask":        spoilt(func(l List) List { return append(l[:5], l[6]) }),
		"two masks":      spoilt(func(l List) List { l[4] = l[5]; return l }),
		"wrong order":    spoilt(func(l List) List { l[0], l[1] = l[1], l[0]; return l }),
		"more than rwx":  spoilt(func(l List) List { l[1].Perm = 8; return l }),
		"unknown tag":    spoilt(func(l List) List { l[6].Tag = 0x40; return l }),
		"user by no one": spoilt(func(l List) List { l[1].ID = noID; return l }),
	} {
		if l, err := Parse(value); err != syscall.EINVAL {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

func TestModes(t *testing.T) {
	if got := full.Mode(0o42000); got != 0o42761 {
		t.Errorf("mode %o", got)
	}
	if got, want := full.Chmod(0o4750), (List{{UserObj, 7, 0}, {User, 6, 1000}, {User, 4, 1001}, {GroupObj, 5, 0}, {Group, 7, 50}, {Mask, 5, 0}, {Other, 0, 0}}); !reflect.DeepEqual(got, want) {
		t.Errorf("after chmod %v", got)
	}
	if got := minimal.Chmod(0o751); got.Mode(0) != 0o751 {
		t.Errorf("a minimal list after chmod is %v", got)
	}
	for _, tt := range []struct {
		from List
		mode uint32
		want List
		now  uint32
	}{
		{full, 0o100666, List{{UserObj, 6, 0}, {User, 6, 1000}, {User, 4, 1001}, {GroupObj, 5, 0}, {Group, 7, 50}, {Mask, 6, 0}, {Other, 0, 0}}, 0o100660},
		{full, 0o41777, List{{UserObj, 7, 0}, {User, 6, 1000}, {User, 4, 1001}, {GroupObj, 5, 0}, {Group, 7, 50}, {Mask, 6, 0}, {Other, 1, 0}}, 0o41761},
		{minimal, 0o100777, minimal, 0o100640},
		{minimal, 0o100200, List{{UserObj, 2, 0}, {GroupObj, 0, 0}, {Other, 0, 0}}, 0o100200},
	} {
		got, now := tt.from.Inherit(tt.mode)
		if !reflect.DeepEqual(got, tt.want) || now != tt.now {
			t.Errorf("%o under %v gets %v and %o, want %v and %o", tt.mode, tt.from, got, now, tt.want, tt.now)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, l := range []List{full, minimal, full[1:]} {
		f.Add(l.Value())
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		l, err := Parse(value)
		if err != nil {
			return
		}
		back, err := Parse(l.Value())
		if err != nil || back.Mode(0) != l.Mode(0) {
			t.Errorf("%v comes back as %v, %v", l, back, err)
		}
		if mode := l.Mode(0); l.Chmod(mode).Mode(0) != mode {
			t.Errorf("%v is changed by its own mode %o", l, mode)
		}
	})
}
