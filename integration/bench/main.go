package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// noPassthrough is the system that the floor is set by.
const noPassthrough = "loopback, no passthrough"

// onMounts is the part that compares mounts.
const onMounts = "mounts"

// parts are what --only takes: the mounts, and the kinds of nodes.
var parts = []string{onMounts, onDirectory, onGRPC, onHTTP}

// workCommand makes this program the process of one workload.
const workCommand = "work"

type bench struct {
	rounds  int
	dir     string   // on the filesystem that is measured
	bin     string   // "": build
	without []string // systems to leave out
	only    []string // parts to measure; none: all
	self    string
	base    string // all of this run's files
	tarball string
	out     io.Writer
	log     io.Writer
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == workCommand {
		index, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = work(index, os.Args[3], os.Args[4], os.Stdout)
		}
		exit(err)
	}
	if len(os.Args) == 2 && os.Args[1] == bareCommand {
		exit(bareServe(os.Stdout))
	}
	b := &bench{out: os.Stdout, log: os.Stderr}
	pflag.IntVar(&b.rounds, "rounds", 3, "how many `N` times everything is measured")
	pflag.StringVar(&b.dir, "dir", "", "a `DIR` on the filesystem to measure (default: where temporary files go)")
	pflag.StringVar(&b.bin, "bin", "", "the `DIR` of built stasis and stasis-mount (default: build them)")
	pflag.StringSliceVar(&b.without, "without", nil, "leave out these `SYSTEMS`: loopback, stasis")
	pflag.StringSliceVar(&b.only, "only", nil, "measure these `PARTS` alone: "+strings.Join(parts, ", "))
	pflag.Parse()
	if b.rounds < 1 || pflag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: bench [--rounds N] [--dir DIR] [--bin DIR] [--without SYSTEMS] [--only PARTS], with N at least 1")
		os.Exit(2)
	}
	if err := b.checkOnly(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(b.run(ctx))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.base, err = os.MkdirTemp(b.dir, "stasis-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.base)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "medians of %d rounds, %d cores, %s\n\n", b.rounds, runtime.NumCPU(), runtime.Version())
	if b.does(onMounts) {
		if err := b.mounts(ctx); err != nil {
			return err
		}
	}
	return b.peers(ctx)
}

// mounts compares a vault with what a person would compare it with.
func (b *bench) mounts(ctx context.Context) (err error) {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	systems, err := b.systems(ctx)
	defer func() {
		// The last one first: its namespace holds copies of the mounts made before it.
		for _, s := range slices.Backward(systems) {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return err
	}
	f := newFigures()
	for round := range b.rounds {
		if err := b.round(ctx, round, systems, f); err != nil {
			return err
		}
	}
	names := []string{}
	for _, s := range systems {
		names = append(names, s.name)
	}
	if err := f.print(b.out, names); err != nil {
		return err
	}
	_, err = fmt.Fprintln(b.out)
	return err
}

// prepare builds what is measured and packs the tree that is unpacked.
func (b *bench) prepare(ctx context.Context) error {
	goroot, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	b.tarball = filepath.Join(b.base, "tree.tar")
	if _, err := output(ctx, "tar", "-cf", b.tarball, "-C", goroot, "src"); err != nil {
		return err
	}
	if _, err := output(ctx, "go", "build", "-o", filepath.Join(b.base, "loopback.bin"), "github.com/hanwen/go-fuse/v2/example/loopback"); err != nil {
		return err
	}
	return nil
}

// build builds what is measured, unless it is there.
func (b *bench) build(ctx context.Context) (err error) {
	if b.bin != "" {
		b.bin, err = filepath.Abs(b.bin)
		return err
	}
	b.bin = filepath.Join(b.base, "bin")
	if err := os.Mkdir(b.bin, 0o755); err != nil {
		return err
	}
	_, err = output(ctx, "go", "build", "-o", b.bin, "stasis/cmd/stasis", "stasis/cmd/stasis-mount", "stasis/cmd/stasis-peer")
	return err
}

// systems starts what is compared. What this machine can't run is left out and said.
func (b *bench) systems(ctx context.Context) ([]*system, error) {
	all := []*system{}
	s, err := plain(b.base)
	if err != nil {
		return nil, err
	}
	all = append(all, s)
	binary := filepath.Join(b.base, "loopback.bin")
	for _, unprivileged := range []bool{false, true} {
		if slices.Contains(b.without, "loopback") {
			break
		}
		s, err := loopback(ctx, b.base, binary, unprivileged)
		if err != nil {
			fmt.Fprintln(b.log, "left out:", err)
			continue
		}
		all = append(all, s)
	}
	if slices.Contains(b.without, "stasis") {
		return all, nil
	}
	if s, err = vault(ctx, b.base, b.bin); err != nil {
		return all, err
	}
	return append(all, s), nil
}

// round runs every measure on every system. The systems take turns, and each round
// another one begins.
func (b *bench) round(ctx context.Context, round int, systems []*system, f *figures) error {
	for index, m := range measures {
		for turn := range systems {
			s := systems[(turn+round)%len(systems)]
			if m.cold {
				if err := dropCaches(); err != nil {
					fmt.Fprintln(b.log, "left out:", m.name, err)
					continue
				}
			}
			seconds, err := b.measure(ctx, index, s)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", m.name, s.name, err)
			}
			waited, err := s.settle(ctx, m.wait)
			if err != nil {
				return err
			}
			f.add(m.name, s.name, seconds)
			if m.wait && s.wait != nil {
				f.wait[m.name] = append(f.wait[m.name], waited)
			}
			fmt.Fprintf(b.log, "round %d  %-32s %-26s %10s %s\n", round+1, m.name, s.name, m.figure(seconds), m.unit)
		}
	}
	return nil
}

// measure runs one workload in a process of its own.
func (b *bench) measure(ctx context.Context, index int, s *system) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	out, err := s.inside(ctx, b.self, workCommand, strconv.Itoa(index), s.dir, b.tarball)
	if err != nil {
		return 0, err
	}
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return 0, err
	}
	if r.Error != "" {
		return 0, errors.New(r.Error)
	}
	return r.Seconds, nil
}

// dropCaches empties the page cache, which only root may.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(trimNewline(out)), nil
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}
