package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// The measures of a node.
const (
	copyHuge = "copy 1 GiB"
	readBack = "read it back, cold"
	copyMany = "copy 10,000 files of 4 KiB"
	makeMany = "make them first"
)

func figureName(up bool) string {
	if up {
		return copyHuge
	}
	return readBack
}

func bareOf(kind string) string { return "bare " + kind }

// meter takes the time, and the CPU time of both ends.
type meter struct {
	near, far             *system
	began                 time.Time
	nearBefore, farBefore time.Duration
}

// transfer is what a meter has read.
type transfer struct{ wall, near, far time.Duration }

func (m *meter) start() {
	m.nearBefore, m.farBefore = cpuOf(m.near), cpuOf(m.far)
	m.began = time.Now()
}

func (m *meter) stop() transfer {
	return transfer{wall: time.Since(m.began), near: cpuOf(m.near) - m.nearBefore, far: cpuOf(m.far) - m.farBefore}
}

// cpuOf is the CPU time of a process so far; of this one where the system has none.
func cpuOf(s *system) time.Duration {
	switch {
	case s == nil:
		return 0
	case s.daemon != nil:
		return s.cpu()
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// transfers holds what all rounds took, by measure and way.
type transfers map[string]map[string][]transfer

func (b *bench) took(round int, f transfers, measure, way string, t transfer) {
	if f[measure] == nil {
		f[measure] = map[string][]transfer{}
	}
	f[measure][way] = append(f[measure][way], t)
	fmt.Fprintf(b.log, "round %d  %-32s %-26s %10.2f s, CPU %.2f and %.2f s\n", round+1, measure, way, t.wall.Seconds(), t.near.Seconds(), t.far.Seconds())
}

func (f transfers) seconds(measure, way string, of func(transfer) time.Duration) float64 {
	v := []float64{}
	for _, t := range f[measure][way] {
		v = append(v, of(t).Seconds())
	}
	return median(v)
}

func wall(t transfer) time.Duration { return t.wall }
func near(t transfer) time.Duration { return t.near }
func far(t transfer) time.Duration  { return t.far }

// print writes a row for each way, then what was reached of the goals.
func (f transfers) print(out io.Writer, kinds []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "copies on one node\tMB/s\tof bare\tCPU s/GiB\tat the peer\tcold read MB/s\tof bare\tCPU s/GiB\tat the peer\tfiles/s\tclosed before, files/s\t")
	verdicts := []string{}
	for _, kind := range kinds {
		ways := []string{bareOf(kind), kind}
		if kind == onDirectory {
			ways = ways[1:]
		}
		for _, way := range ways {
			row := []string{way}
			for _, measure := range []string{copyHuge, readBack} {
				row = append(row, f.rate(measure, way, hugeSize/1e6), f.share(measure, kind, way), f.each(measure, way, near), f.each(measure, way, far))
			}
			row = append(row, f.rate(copyMany, way, manyFiles), f.rate(makeMany, way, manyFiles))
			fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
		}
		verdicts = append(verdicts, f.verdicts(kind)...)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, v := range verdicts {
		if _, err := fmt.Fprintln(out, v); err != nil {
			return err
		}
	}
	return nil
}

// rate shows an amount a second.
func (f transfers) rate(measure, way string, amount float64) string {
	s := f.seconds(measure, way, wall)
	if s == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", amount/s)
}

// each shows the CPU seconds a GiB of one end.
func (f transfers) each(measure, way string, end func(transfer) time.Duration) string {
	s := f.seconds(measure, way, end)
	if s == 0 { // nobody is there
		return "-"
	}
	return fmt.Sprintf("%.2f", s*(1<<30)/hugeSize)
}

// share shows how fast a way is as a multiple of the bare stream.
func (f transfers) share(measure, kind, way string) string {
	if way == bareOf(kind) {
		return "-"
	}
	return times(f.seconds(measure, bareOf(kind), wall), f.seconds(measure, way, wall))
}

func (f transfers) verdicts(kind string) (out []string) {
	said := func(what string, got, goal float64, unit string) {
		word := "goal met"
		if got < goal {
			word = "GOAL MISSED"
		}
		out = append(out, fmt.Sprintf("%s: %s by %s, %.4g%s of a goal of %.4g", word, what, kind, got, unit, goal))
	}
	bare, own := f.seconds(copyHuge, bareOf(kind), wall), f.seconds(copyHuge, kind, wall)
	if bare > 0 && own > 0 {
		said(copyHuge, bare/own, bareGoal, " times the bare stream")
	}
	if s := f.seconds(copyMany, kind, wall); s > 0 {
		said(copyMany, manyFiles/s, manyGoal, " files/s")
	}
	return out
}

// hugePiece fills p with what the file has at piece i.
func hugePiece(p []byte, i int) { p[0], p[1] = byte(i), byte(i>>8) }

// writeHuge writes a file and starts the meter as soon as it is closed.
func writeHuge(path string, m *meter) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	p := make([]byte, bigPiece)
	fill(p, 7)
	for i := range hugeSize / bigPiece {
		hugePiece(p, i)
		if _, err := f.Write(p); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	m.start()
	return nil
}

// readHuge reads it from the beginning to the end and compares.
func readHuge(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	want, got := make([]byte, bigPiece), make([]byte, bigPiece)
	fill(want, 7)
	for i := range hugeSize / bigPiece {
		hugePiece(want, i)
		if _, err := io.ReadFull(f, got); err != nil {
			return err
		}
		if !bytes.Equal(want, got) {
			return fmt.Errorf("%s is not what was written at %d MiB", path, i)
		}
	}
	return nil
}
