package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

// killWithin is how long after some name is in place a kill comes at most.
const killWithin = 30 * time.Millisecond

// What a program was told is done survives kill -9 of the daemon: every name that rsync
// had renamed into place is there afterwards, with all of its content and its times.
func TestKillDuringRsync(t *testing.T) {
	v := harness.NewVault(t)
	v.Settings("copies = 2\n")
	v.Start()
	v.OK("node", "add", v.Point, "a", "directory", filepath.Join(v.Base, "a"))
	v.OK("node", "add", v.Point, "b", "container", filepath.Join(v.Base, "b"), "--capacity", "3GiB")
	source := goSource(t, "encoding")
	random := harness.Rand(t)
	rounds, most := harness.Count(6, 50), harness.Count(60, 400)
	for round, tree := 0, 0; round < rounds; round++ {
		into := v.Path(fmt.Sprintf("tree-%d", tree))
		w := newWatcher(t)
		harness.Must(t, "rsync", "-a", "-f+ */", "-f- *", source+"/", into+"/")
		w.add(into)
		cmd := exec.Command("rsync", "-a", "--delete", source+"/", into+"/") // what an earlier one left unfinished goes
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		w.await(1+random.IntN(most), ended)
		time.Sleep(time.Duration(random.Int64N(int64(killWithin)))) // anywhere in what it does for a file
		v.Kill()
		err := <-ended
		arrived := w.close()
		t.Logf("round %d: killed after %s; rsync: %v; %d names were in place", round, time.Since(start).Round(time.Millisecond), err, len(arrived))
		v.Start()
		for path := range arrived {
			rel, err := filepath.Rel(into, path)
			if err != nil {
				t.Fatal(err)
			}
			same(t, filepath.Join(source, rel), path)
		}
		if t.Failed() {
			return
		}
		if err == nil {
			// It was done before the kill; the next goes elsewhere.
			harness.SameTrees(t, source, into)
			if err := os.RemoveAll(into); err != nil {
				t.Fatal(err)
			}
			tree++
		}
	}
	into := v.Path("last")
	rsync(t, source, into)
	harness.SameTrees(t, source, into)
	v.Wait(10 * time.Minute)
	everyFileHas(t, v, 2)
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// same checks one file against the one it is a copy of.
func same(t *testing.T, want, got string) {
	t.Helper()
	w, err := os.Lstat(want)
	if err != nil {
		t.Fatal(err)
	}
	g, err := os.Lstat(got)
	if err != nil {
		t.Errorf("it was in place before the kill: %v", err)
		return
	}
	if g.Size() != w.Size() || !g.ModTime().Equal(w.ModTime()) || g.Mode() != w.Mode() {
		t.Errorf("%s: %d bytes, %v, %v; want %d, %v, %v", got, g.Size(), g.ModTime(), g.Mode(), w.Size(), w.ModTime(), w.Mode())
		return
	}
	a, err := harness.Digest(want)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := harness.Digest(got); err != nil || a != b {
		t.Errorf("%s has other content than what was put there (%v)", got, err)
	}
}

// A kill amid a change of the settings leaves a vault that starts, with the change or
// without it, and the change can be made again.
func TestKillDuringChanges(t *testing.T) {
	v := harness.NewVault(t)
	v.Directories(1, filepath.Join(v.Base, "a"))
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	random := harness.Rand(t)
	changes := [][]string{
		{"node", "add", v.Point, "b", "directory", filepath.Join(v.Base, "b")},
		{"policy", "set", v.Point, "--copies", "2"},
		{"node", "remove", v.Point, "b", "--force"},
		{"policy", "set", v.Point, "--copies", "1"},
		{"node", "add", v.Point, "c", "container", filepath.Join(v.Base, "c"), "--capacity", "16MiB"},
		{"node", "remove", v.Point, "c", "--force"},
	}
	for round := range harness.Count(12, 120) {
		args := changes[round%len(changes)]
		cmd := exec.Command(harness.Binary(t, "stasis"), args...)
		cmd.Env = append(os.Environ(), v.Env...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(3 * killWithin))))
		v.Kill()
		err := cmd.Wait()
		v.Start()
		if got := harness.Read(t, v.Path("file")); got != "content\n" {
			t.Fatalf("round %d: the file reads %q", round, got)
		}
		// Again, unless it was done: then it says so, and changes nothing.
		r := v.Stasis(args...)
		if done := strings.Contains(r.Stderr, "there is a node of that name") || strings.Contains(r.Stderr, "not found"); r.Code != 0 && !done {
			t.Fatalf("round %d, which ended with %v and then:\n%v", round, err, r)
		}
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
}
