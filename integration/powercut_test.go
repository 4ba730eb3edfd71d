package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	// cutRounds is how often the power is cut on each filesystem, cutSoak with full counts.
	cutRounds, cutSoak = 3, 50
	// cutWorkers work at once.
	cutWorkers = 3
	// cutAfter is the longest that they work before the power goes: longer than the time in
	// which bodies are synced by themselves.
	cutAfter = 6 * time.Second
	// cutLinger is the longest that the daemon lives on with a dead disk.
	cutLinger = 100 * time.Millisecond
	// cutStory is how many lines of what was done to a file the report of a failure has.
	cutStory = 40
	// cutDisk is the size of the filesystem, in bytes.
	cutDisk = 4 << 30
	// cutFull is how many bytes it has left at least when a round begins.
	cutFull = 2 << 30
)

// The power goes while programs work, with everything the vault has on one disk. What was
// synced, or said to be durable, is there; every other file is old or new; the names are
// those of some moment.
func TestPowerCut(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			r := harness.Rand(t)
			disk := harness.NewDisk(t, kind, cutDisk)
			v := harness.NewVaultAt(t, filepath.Join(disk.Point, "state"))
			v.Directories(2, filepath.Join(disk.Point, "one"), filepath.Join(disk.Point, "two"))
			v.Start()
			c := &cutTest{t: t, disk: disk, vault: v}
			for i := range cutWorkers {
				dir := harness.Mkdir(t, v.Path(fmt.Sprintf("w%d", i)))
				c.workers = append(c.workers, &cutWorker{vault: v, gone: &c.gone, dir: dir, rand: rand.New(rand.NewPCG(r.Uint64(), 0))})
			}
			harness.Must(t, "sync", v.Path("w0")) // their directories are no part of it
			for _, w := range c.workers {
				if err := w.readBack(); err != nil {
					t.Fatal(err)
				}
			}
			for round := range harness.Count(cutRounds, cutSoak) {
				c.round(round+1, time.Duration(r.Int64N(int64(cutAfter))), time.Duration(r.Int64N(int64(cutLinger))))
				if t.Failed() {
					return
				}
			}
			v.OK("check", "--read", v.Point)
			v.Unmount()
		})
	}
}

type cutTest struct {
	t       *testing.T
	disk    *harness.Disk
	vault   *harness.Vault
	workers []*cutWorker
	gone    atomic.Bool // the power is going
}

// round works, cuts the power, starts again and compares.
func (c *cutTest) round(number int, work, linger time.Duration) {
	var all sync.WaitGroup
	for _, w := range c.workers {
		w.failed = nil
		all.Go(w.work)
	}
	time.Sleep(work)
	c.gone.Store(true)
	c.disk.Cut()
	time.Sleep(linger)
	c.vault.Kill()
	all.Wait()
	c.vault.Detach()
	c.disk.Unmount()
	c.disk.Mount()
	c.gone.Store(false)
	c.vault.Start()

	kept := make([]survival, len(c.workers))
	for i, w := range c.workers {
		kept[i] = c.compare(number, w)
	}
	if c.t.Failed() {
		return
	}
	c.ordered(number, kept)
	ops := 0
	for _, w := range c.workers {
		ops += len(w.log)
	}
	c.t.Logf("round %d: cut after %s, %d changes of names, kept %v", number, work.Round(time.Millisecond), ops, kept)
	for _, w := range c.workers {
		if c.disk.Free() < cutFull {
			harness.Must(c.t, "find", w.dir, "-mindepth", "1", "-delete")
			harness.Must(c.t, "sync", w.dir)
		}
		if err := w.readBack(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// survival is how many of a worker's operations survived, at least and at most, as the
// names tell.
type survival struct{ least, most, of int }

func (s survival) String() string { return fmt.Sprintf("%d-%d/%d", s.least, s.most, s.of) }

// compare checks what one worker finds.
func (c *cutTest) compare(round int, w *cutWorker) survival {
	c.t.Helper()
	found, contents, err := w.read()
	if err != nil {
		c.t.Errorf("round %d: %v (worked until: %v)", round, err, w.failed)
		return survival{}
	}
	ks := prefixes(w.base, w.log, found)
	if len(ks) == 0 {
		c.t.Errorf("round %d, %s: the names are those of no moment (%d of %d operations had to be kept; worked until: %v)\n%s",
			round, w.dir, w.least, len(w.log), w.failed, explain(w.base, w.log, found))
		return survival{}
	}
	s := survival{least: ks[0], most: ks[len(ks)-1], of: len(w.log)}
	if s.most < w.least {
		c.t.Errorf("round %d, %s: %d operations survived, and %d were synced or said to be durable\n%s",
			round, w.dir, s.most, w.least, explain(w.base, w.log, found))
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		n := found[path]
		model := w.files[n.ino]
		if n.kind != "file" || model == nil {
			continue // made by the call that was cut off
		}
		if why := model.allows(contents[n.ino], !strings.HasPrefix(filepath.Base(path), "t")); why != "" {
			c.t.Errorf("round %d, %s/%s, inode %d: %s (worked until: %v)\n%s", round, w.dir, path, n.ino, why, w.failed, w.about(n.ino))
		}
	}
	return s
}

// about lists the operations on an inode, then those on its content.
func (w *cutWorker) about(ino uint64) string {
	lines := []string{}
	for i, op := range w.log {
		if slices.Contains(op.inodes, ino) {
			lines = append(lines, fmt.Sprintf("  %d %s, answered: %v", i+1, op.text, op.answered))
		}
	}
	if c := w.files[ino]; c != nil {
		lines = append(lines, c.story[max(0, len(c.story)-cutStory):]...)
	}
	return strings.Join(lines, "\n")
}

// ordered checks that what survived is a prefix over all workers: nothing is lost that
// had been answered before something that survived was asked for.
func (c *cutTest) ordered(round int, kept []survival) {
	for i, lost := range c.workers {
		if kept[i].most == len(lost.log) || !lost.log[kept[i].most].answered {
			continue
		}
		gone := lost.log[kept[i].most]
		for j, w := range c.workers {
			if kept[j].least == 0 {
				continue
			}
			if there := w.log[kept[j].least-1]; gone.end.Before(there.start) {
				c.t.Errorf("round %d: %q of %s is there, and %q of %s, which ended %s before, is not", round, there.text, w.dir, gone.text, lost.dir, there.start.Sub(gone.end))
			}
		}
	}
}
