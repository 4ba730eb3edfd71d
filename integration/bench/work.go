package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// A measure is one workload and how its figure reads.
type measure struct {
	name   string
	unit   string
	amount float64 // what is done, for a rate in unit a second; 0: the figure is the seconds
	cold   bool    // the page cache is emptied before
	wait   bool    // a vault's copies are waited for, and that is a figure too
	floor  bool    // must be as fast as loopback without passthrough
	run    func(dir, tarball string) error
	before func(dir string) error // not timed
}

// measures in the order in which a round runs them: later ones read and remove what
// earlier ones made.
var measures = []measure{
	{name: "create 4 KiB files, 4 workers", unit: "files/s", amount: smallFiles, wait: true, floor: true, before: makeSmallDirs, run: createSmall},
	{name: "read them, cold", unit: "files/s", amount: smallFiles, cold: true, run: readSmall},
	{name: "untar the Go tree", unit: "s", wait: true, floor: true, before: makeTree, run: untar},
	{name: "write 512 MiB + fsync", unit: "MiB/s", amount: bigSize >> 20, wait: true, run: writeBig},
	{name: "read it, cold", unit: "MiB/s", amount: bigSize >> 20, cold: true, run: readBig},
	{name: "read it, warm", unit: "MiB/s", amount: bigSize >> 20, run: readBig},
	{name: "remove it all", unit: "s", run: removeAll},
}

// result is what a workload's process prints.
type result struct {
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

// work runs one measure in this process and prints its result.
func work(index int, dir, tarball string, out io.Writer) error {
	if index < 0 || index >= len(measures) {
		return fmt.Errorf("there is no measure %d", index)
	}
	m := measures[index]
	var r result
	if m.before != nil {
		if err := m.before(dir); err != nil {
			r.Error = err.Error()
			return json.NewEncoder(out).Encode(r)
		}
	}
	start := time.Now()
	err := m.run(dir, tarball)
	r.Seconds = time.Since(start).Seconds()
	if err != nil {
		r.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(r)
}

func smallDir(dir string, i int) string {
	return filepath.Join(dir, "small", fmt.Sprintf("d%03d", i/smallPerDir))
}

func smallPath(dir string, i int) string {
	return filepath.Join(smallDir(dir, i), fmt.Sprintf("f%05d", i))
}

func makeSmallDirs(dir string) error { return makeDirs(dir, smallFiles) }

// makeDirs makes the directories for so many small files.
func makeDirs(dir string, files int) error {
	for i := 0; i < files; i += smallPerDir {
		if err := os.MkdirAll(smallDir(dir, i), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// eachSmall shares small files among the workers, file by file.
func eachSmall(files int, do func(i int, buf []byte) error) error {
	var wg sync.WaitGroup
	errs := make([]error, smallWorkers)
	for w := range smallWorkers {
		wg.Go(func() {
			// Content that no filesystem can take for another file's.
			buf := make([]byte, smallSize)
			fill(buf, uint64(w))
			for i := w; i < files && errs[w] == nil; i += smallWorkers {
				errs[w] = do(i, buf)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func fill(buf []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range buf {
		buf[i] = byte(r.Uint32())
	}
}

func createSmall(dir, _ string) error { return createMany(dir, smallFiles) }

// createMany makes so many small files.
func createMany(dir string, files int) error {
	return eachSmall(files, func(i int, buf []byte) error {
		buf[0], buf[1] = byte(i), byte(i>>8)
		return os.WriteFile(smallPath(dir, i), buf, 0o644)
	})
}

func readSmall(dir, _ string) error {
	return eachSmall(smallFiles, func(i int, _ []byte) error {
		got, err := os.ReadFile(smallPath(dir, i))
		if err == nil && len(got) != smallSize {
			err = fmt.Errorf("%s has %d bytes, not %d", smallPath(dir, i), len(got), smallSize)
		}
		return err
	})
}

func treeDir(dir string) string { return filepath.Join(dir, "tree") }

func makeTree(dir string) error { return os.Mkdir(treeDir(dir), 0o755) }

func untar(dir, tarball string) error {
	// A user namespace knows no other owner than the one who made it.
	out, err := exec.Command("tar", "--no-same-owner", "-xf", tarball, "-C", treeDir(dir)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("untar: %w: %s", err, out)
	}
	return nil
}

func bigPath(dir string) string { return filepath.Join(dir, "big") }

func writeBig(dir, _ string) error {
	f, err := os.Create(bigPath(dir))
	if err != nil {
		return err
	}
	buf := make([]byte, bigPiece)
	fill(buf, 7)
	for i := range bigSize / bigPiece {
		buf[0], buf[1] = byte(i), byte(i>>8)
		if _, err := f.Write(buf); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func readBig(dir, _ string) error {
	f, err := os.Open(bigPath(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, bigPiece)
	for total := 0; ; {
		n, err := f.Read(buf)
		total += n
		switch {
		case errors.Is(err, io.EOF) && total == bigSize:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%s has %d bytes, not %d", f.Name(), total, bigSize)
		case err != nil:
			return err
		}
	}
}

func removeAll(dir, _ string) error {
	out, err := exec.Command("rm", "-rf", filepath.Join(dir, "small"), treeDir(dir), bigPath(dir)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove: %w: %s", err, out)
	}
	return nil
}
