package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// figures holds the seconds of every round, by measure and system, and those that a vault
// then took to have its copies.
type figures struct {
	work map[string]map[string][]float64
	wait map[string][]float64
}

func newFigures() *figures {
	return &figures{work: map[string]map[string][]float64{}, wait: map[string][]float64{}}
}

func (f *figures) add(measure, system string, seconds float64) {
	if f.work[measure] == nil {
		f.work[measure] = map[string][]float64{}
	}
	f.work[measure][system] = append(f.work[measure][system], seconds)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// print writes the table: a row a measure, a column a system, then how fast a vault is as
// a multiple of the two that it is held against.
func (f *figures) print(out io.Writer, systems []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	header := append([]string{"", "unit"}, systems...)
	fmt.Fprintln(w, strings.Join(append(header, "vs "+noPassthrough, "vs ext4"), "\t")+"\t")
	verdicts := []string{}
	for _, m := range measures {
		row := []string{m.name, m.unit}
		for _, s := range systems {
			row = append(row, m.figure(median(f.work[m.name][s])))
		}
		own := median(f.work[m.name]["stasis"])
		for _, other := range []string{noPassthrough, "ext4"} {
			row = append(row, times(median(f.work[m.name][other]), own))
		}
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
		if m.wait && len(f.wait[m.name]) > 0 {
			row = []string{"then, until `stasis wait`", "s"}
			for _, s := range systems {
				cell := "-"
				if s == "stasis" {
					cell = fmt.Sprintf("%.1f", median(f.wait[m.name]))
				}
				row = append(row, cell)
			}
			fmt.Fprintln(w, strings.Join(append(row, "", ""), "\t")+"\t")
		}
		if floor := median(f.work[m.name][noPassthrough]); m.floor && floor > 0 && own > 0 {
			verdicts = append(verdicts, verdict(m.name, floor/own))
		}
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

func verdict(name string, speed float64) string {
	if speed >= 1 {
		return fmt.Sprintf("floor met: %s, %.2f times as fast as %s", name, speed, noPassthrough)
	}
	return fmt.Sprintf("FLOOR MISSED: %s, %.2f times as fast as %s", name, speed, noPassthrough)
}

// figure shows seconds in the measure's unit.
func (m measure) figure(seconds float64) string {
	switch {
	case seconds == 0:
		return "-"
	case m.amount == 0:
		return fmt.Sprintf("%.2f", seconds)
	}
	return fmt.Sprintf("%.0f", m.amount/seconds)
}

// times shows how many times as fast own is.
func times(other, own float64) string {
	if other == 0 || own == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", other/own)
}
