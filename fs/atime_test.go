package fs

import (
	"testing"
	"time"

	"stasis/fs/names"
)

func TestAccessed(t *testing.T) {
	v := newVault(t, 1, 1<<30)
	h := v.create("f")
	v.write(h, []byte("x"), 0)
	must(t, h.Flush(t.Context()))
	ino := h.Ino()
	h.Release()
	set := func(atime, changed time.Duration) int64 {
		t.Helper()
		now := names.Now()
		at, ct := now-int64(atime), now-int64(changed)
		_, err := v.SetAttr(t.Context(), ino, nil, Change{Atime: &at, Mtime: &ct, Ctime: &ct})
		must(t, err)
		return at
	}
	atime := func() int64 {
		t.Helper()
		a, err := v.GetAttr(ino)
		must(t, err)
		return a.Atime
	}
	for _, c := range []struct {
		what           string
		atime, changed time.Duration // before now
		want           bool
	}{
		{"older than the change", 2 * time.Hour, time.Hour, true},
		{"as old as the change", time.Hour, time.Hour, true},
		{"newer than the change", time.Hour, 2 * time.Hour, false},
		{"newer than the change, not quite a day old", 23 * time.Hour, 48 * time.Hour, false},
		{"newer than the change, more than a day old", 25 * time.Hour, 48 * time.Hour, true},
	} {
		was := set(c.atime, c.changed)
		if got := v.Accessed(ino); got != c.want {
			t.Errorf("an access time that is %s: changed: %v", c.what, got)
		}
		if now := atime(); (now != was) != c.want {
			t.Errorf("an access time that is %s went from %d to %d", c.what, was, now)
		}
	}
	read := atime()
	v.stop()
	v.start()
	if atime() != read {
		t.Errorf("after a restart the access time is %d, and was %d", atime(), read)
	}
	// What a program sets comes after what was noted before.
	set(2*time.Hour, time.Hour)
	v.Accessed(ino)
	was := set(3*time.Hour, time.Hour)
	must(t, v.keepAtimes())
	if atime() != was {
		t.Errorf("the access time is %d, and was set to %d", atime(), was)
	}
	// One written to since, which the namespace does not know yet.
	h = v.open("f", 1)
	set(0, time.Hour)
	time.Sleep(10 * time.Millisecond)
	v.write(h, []byte("y"), 0)
	if !v.Accessed(ino) {
		t.Error("a file that was written to after it was read keeps its access time")
	}
	h.Release()
}
