package integration

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// A daemon that was killed holds what it had until the kernel has ended it, and that takes
// the longer the more it was doing. A start right after the kill waits for that, and mounts.
func TestStartBesideADyingDaemon(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Mkdir(t, v.Point, "d") // with the mount gone nobody writes to what is below it
	longest := time.Duration(0)
	for round := range harness.Count(8, 20) {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for i := range 3 {
			writers.Go(func() {
				p := harness.Bytes(uint64(i), 48<<20)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					f, err := os.Create(v.Path("d", fmt.Sprintf("%d-%d", i, n%2)))
					if err != nil {
						return // the daemon was killed
					}
					_, _ = f.Write(p)
					_ = f.Sync()
					_ = f.Close()
				}
			})
		}
		time.Sleep(300 * time.Millisecond) // of load
		pid := v.PID()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r := v.TryStart()
		longest = max(longest, r.Took)
		close(stop)
		writers.Wait()
		if r.Code != 0 {
			t.Errorf("round %d, beside pid %d:\n%v", round, pid, r)
			v.AwaitEndOf(pid)
			v.Start()
		}
		harness.Write(t, "content\n", v.Point, "file")
	}
	t.Logf("the longest start took %s", longest.Round(time.Millisecond))
	v.Unmount()
}

// However long it takes to end: here it has everything, answers nothing, and is gone a second
// after the start began.
func TestStartBesideADaemonThatTakesTimeToDie(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	longest := time.Duration(0)
	for round := range harness.Count(3, 20) {
		pid := v.PID()
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		killed := make(chan error, 1)
		time.AfterFunc(time.Second, func() { killed <- unix.Kill(pid, unix.SIGKILL) })
		r := v.TryStart()
		longest = max(longest, r.Took)
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		if r.Code != 0 {
			t.Errorf("round %d, beside pid %d:\n%v", round, pid, r)
			v.AwaitEndOf(pid)
			v.Start()
		}
		harness.Write(t, "content\n", v.Point, "file")
	}
	t.Logf("the longest start took %s", longest.Round(time.Millisecond))
	v.Unmount()
}

// A daemon that is stopped is not taken for one that is ending, nor for one that serves: it is
// named, with what to do, after a bound, and its mount stays.
func TestStartBesideAStoppedDaemon(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	pid := v.PID()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) }) // it may have ended
	r := v.TryStart()
	v.Refused(r, 1, fmt.Sprintf("pid %d has it and is stopped", pid), fmt.Sprintf("kill -CONT %d", pid))
	if r.Took > time.Minute {
		t.Errorf("it took %s to say so", r.Took)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	v.Refused(v.TryStart(), 1, fmt.Sprintf("already mounted, by pid %d", pid))
	if got := harness.Read(t, v.Path("file")); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	v.Unmount()
}

// Two that start at once beside a dead mount don't take away one another's.
func TestTwoStartsBesideADeadMount(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	for range harness.Count(4, 20) {
		if err := unix.Kill(v.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		codes := make([]int, 2)
		for i := range codes {
			both.Go(func() { codes[i] = v.TryStart().Code })
		}
		both.Wait()
		if codes[0]+codes[1] != 1 {
			t.Fatalf("of two starts one is to mount, and they ended with %v", codes)
		}
		harness.Write(t, "content\n", v.Point, "file")
	}
	v.Unmount()
}
