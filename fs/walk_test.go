package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
)

// Whoever can write to a vault can make a directory in a directory in a directory, and forget
// about it. What goes through the whole vault must not need memory for the paths of all of
// them, which together grow with the square of the depth.
func TestDeepTree(t *testing.T) {
	depth := 4_000
	if os.Getenv("STASIS_SOAK") != "" {
		depth = 20_000
	}
	v := newVault(t, 1, 64*mib)
	_, err := v.SetPolicy(t.Context(), "/", 1, 0)
	must(t, err)
	at := names.Root
	name := strings.Repeat("d", 40)
	for range depth {
		in, _, err := v.tree.Create(at, name, names.Spec{Mode: unix.S_IFDIR | 0o755})
		must(t, err)
		at = in.Ino
		_, _, err = v.tree.Create(at, "file", names.Spec{Mode: unix.S_IFREG | 0o644})
		must(t, err)
	}
	_, _, err = v.tree.Create(at, "beside", names.Spec{Mode: unix.S_IFREG | 0o644})
	must(t, err)
	for what, do := range map[string]func(ctx context.Context) error{
		"check": func(ctx context.Context) error {
			r, err := v.Check(ctx, false, func(problem bool, text string) error { return nil })
			if r.Problems != 0 {
				err = errors.Join(err, fmt.Errorf("%d problems", r.Problems))
			}
			return err
		},
		"find": func(ctx context.Context) error {
			shown := 0
			n, err := v.Find(ctx, "/", []string{"durable"}, func(path, _, _ string) error {
				if shown++; shown == 2 && path != "/"+name+"/"+name+"/file" {
					t.Errorf("the second one is %s", path)
				}
				if len(path) > maxPath+len(cutPath) {
					t.Errorf("a path of %d bytes", len(path))
				}
				return nil
			})
			if n != int64(depth)+1 {
				err = errors.Join(err, fmt.Errorf("%d files found", n))
			}
			return err
		},
		"wait": func(ctx context.Context) error {
			out, err := v.Wait(ctx, WaitRequest{Paths: []string{"/"}})
			if out.Outcome != Reached {
				err = errors.Join(err, fmt.Errorf("it ends with %v", out))
			}
			return err
		},
		"review": func(context.Context) error { return v.reviewTree(names.Root, nil) },
	} {
		const bound = 64 * mib
		var err error
		if most := peak(func() { err = do(t.Context()) }); most > bound {
			t.Errorf("%s: takes %d MiB for %d directories, %d are allowed", what, most/mib, depth, bound/mib)
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// peak is how much more memory, in bytes, was in use at some time while do ran.
func peak(do func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	debug.FreeOSMemory()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	now := func() int64 {
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64() + sample[1].Value.Uint64())
	}
	before, most := now(), int64(0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, now()-before)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	do()
	close(stop)
	wg.Wait()
	return most
}

// A walk that reads again what it had read ahead misses nothing and repeats nothing, in the order
// of the entries.
func TestWalkInOrder(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	var want []string
	var fill func(dir names.Ino, path string, level int)
	fill = func(dir names.Ino, path string, level int) {
		for i := range 3 { // beside the way down, which is in the middle
			name, mode := fmt.Sprint("f", i), uint32(unix.S_IFREG|0o644)
			if i == 1 && level < walkPages+5 {
				name, mode = "d", unix.S_IFDIR|0o755
			}
			in, _, err := v.tree.Create(dir, name, names.Spec{Mode: mode})
			must(t, err)
			want = append(want, path+"/"+name)
			if in.IsDir() {
				fill(in.Ino, path+"/"+name, level+1)
			}
		}
	}
	fill(names.Root, "", 0)
	for top, prefix := range map[string]string{"/": "", "": "", "/x": "/x"} {
		i := -1
		must(t, v.walk(t.Context(), names.Root, top, func(at *place, _ names.Inode) error {
			if i < 0 && at.String() != top || i >= 0 && (i >= len(want) || at.String() != prefix+want[i]) {
				t.Errorf("below %q inode %d is at %s", top, i, at)
			}
			i++
			return nil
		}))
		if i != len(want) {
			t.Errorf("below %q there are %d inodes, not %d", top, i, len(want))
		}
	}
}

// A path that is longer than anybody can use keeps its ends.
func TestPathCut(t *testing.T) {
	for _, n := range []int{1, 100, maxPath/10 - 1, maxPath / 10, maxPath/10 + 1, maxPath} {
		var at *place
		var path strings.Builder
		for i := range n {
			name := fmt.Sprintf("%09d", i)
			if at = (&place{at, name}); i > 0 {
				path.WriteByte('/')
			}
			path.WriteString(name)
		}
		whole, got := path.String(), at.String()
		if len(whole) <= maxPath {
			if got != whole {
				t.Errorf("a path of %d bytes is told as one of %d", len(whole), len(got))
			}
			continue
		}
		head, tail, cut := strings.Cut(got, cutPath)
		if !cut || len(got) > maxPath+len(cutPath) || len(head) < maxPath/2-10 || len(tail) < maxPath/2-10 ||
			!strings.HasPrefix(whole, head+"/") || !strings.HasSuffix(whole, tail) || tail[0] != '/' {
			t.Errorf("a path of %d bytes is told as %d and %d", len(whole), len(head), len(tail))
		}
	}
}
