package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
)

// CheckResult is what a check went through.
type CheckResult struct {
	Crates, Copies, Bytes, Problems int64
}

// Check compares the ledger, the bodies and the nodes with each other: everything that
// a file names must be somewhere. read also reads and verifies every byte that nodes
// hold. report hears of each problem, and of notes, which are no loss. The vault may be in
// use meanwhile.
func (s *FS) Check(ctx context.Context, read bool, report func(problem bool, text string) error) (CheckResult, error) {
	c := &checker{s: s, report: report}
	steps := []func(context.Context) error{c.ledger, c.bodies, c.files, c.marks}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return c.result, err
		}
	}
	return c.result, c.nodes(ctx, read)
}

type checker struct {
	s      *FS
	report func(problem bool, text string) error
	result CheckResult
}

func (c *checker) say(problem bool, text string) error {
	if problem {
		c.result.Problems++
	}
	return c.report(problem, text)
}

func (c *checker) problem(format string, args ...any) error {
	return c.say(true, fmt.Sprintf(format, args...))
}

func (c *checker) ledger(ctx context.Context) error {
	err := c.s.db.Check(ctx)
	if errors.Is(err, store.Corrupt) {
		return c.problem("%v", err)
	}
	return err
}

// nodes compares the manifests with what the nodes have.
func (c *checker) nodes(ctx context.Context, read bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var deaf error // the one who asked does not listen any more
	r, err := c.s.router.Check(ctx, read, func(f router.Finding) {
		if deaf == nil {
			if deaf = c.say(f.Problem, f.Text+c.owner(f)); deaf != nil {
				cancel()
			}
		}
	})
	c.result.Crates, c.result.Copies, c.result.Bytes = r.Crates, r.Copies, r.Bytes
	if deaf != nil {
		return deaf
	}
	return err
}

// owner names the file that a finding about a crate is about.
func (c *checker) owner(f router.Finding) string {
	if f.Crate.IsZero() {
		return ""
	}
	m, err := c.s.router.Manifest(f.Crate)
	if err != nil {
		return "" // nothing names it
	}
	return ": it was made for " + c.name(names.Ino(m.Origin))
}

// bodies looks for the files that hold content no node has yet.
func (c *checker) bodies(ctx context.Context) error {
	return each(c.s.local, tableBody, func(k, v []byte) error {
		ino, err := inoOf(k)
		if err != nil {
			return err
		}
		r, err := decodeBody(v)
		if err != nil {
			return err
		}
		_, err = os.Stat(c.s.bodies.Path(r.Body))
		if !os.IsNotExist(err) {
			return errors.Join(err, ctx.Err())
		}
		// It may have been sealed and sent since the scan.
		if now, ok, err := c.s.local.Get(key(tableBody, uint64(ino))); err != nil || !ok || string(now) != string(v) {
			return err
		}
		return c.problem("%s: its body %s is gone, and with it what was written last", c.name(ino), r.Body)
	})
}

func (c *checker) name(ino names.Ino) string {
	path, err := c.s.tree.Path(ino)
	if err != nil {
		return fmt.Sprintf("inode %d", ino)
	}
	return path
}

// files goes through the namespace: each extent must name a crate that is somewhere.
func (c *checker) files(ctx context.Context) error {
	return c.s.walk(ctx, names.Root, "/", func(at *place, in names.Inode) error {
		if !in.IsRegular() || in.List == 0 {
			return nil
		}
		lost, err := c.lost(ctx, in)
		if err != nil || lost == "" {
			return err
		}
		if now, err := c.s.tree.Get(in.Ino); errors.Is(err, syscall.ENOENT) || err == nil && now.List != in.List {
			return nil // it was replaced while it was looked at
		}
		return c.problem("%s: %s", at, lost)
	})
}

// lost says what a file lacks; empty if it is whole.
func (c *checker) lost(ctx context.Context, in names.Inode) (lost string, err error) {
	end := int64(0)
	err = c.s.eachExtent(in.List, func(e extent.Extent) error {
		if lost != "" {
			return nil
		}
		switch {
		case e.Offset < end:
			lost = fmt.Sprintf("its extents overlap at %d", e.Offset)
		case e.End() > in.Size:
			lost = fmt.Sprintf("it has %d bytes and an extent up to %d", in.Size, e.End())
		default:
			lost, err = c.crate(ctx, e)
		}
		end = e.End()
		return err
	})
	return lost, err
}

// crate looks for a crate until it is found or is not on its way to a node.
func (c *checker) crate(ctx context.Context, e extent.Extent) (lost string, err error) {
	for {
		// Asked first, so that what arrives meanwhile is seen below.
		sending := c.s.router.Sending(e.Crate)
		if lost, err = c.look(e); err != nil || lost == "" || !sending {
			return lost, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(router.CheckPause):
		}
	}
}

func (c *checker) look(e extent.Extent) (lost string, err error) {
	m, err := c.s.router.Manifest(e.Crate)
	if errors.Is(err, store.NotFound) {
		return fmt.Sprintf("the ledger has no manifest of its crate %s", e.Crate), nil
	}
	if err != nil {
		return "", err
	}
	if e.CrateOffset+e.Length > m.Size {
		return fmt.Sprintf("it names bytes up to %d of crate %s, which has %d", e.CrateOffset+e.Length, e.Crate, m.Size), nil
	}
	if m.Copies() > 0 {
		return "", nil
	}
	r, lies, err := c.s.lies(e.Crate)
	if err != nil {
		return "", err
	}
	if lies {
		if st, err := os.Stat(c.s.bodies.Path(r.Body)); err == nil && st.Size() >= r.Offset+r.Length {
			return "", nil
		}
	}
	for _, d := range m.Destinations {
		if d.State == 0 {
			continue
		}
		return "", nil // memory has it, or a copy that is being mended: the router looks at those
	}
	return fmt.Sprintf("no node has its crate %s, and neither does a body", e.Crate), nil
}

// marks notes the files that are on their way.
func (c *checker) marks(ctx context.Context) error {
	sum, err := c.s.Summary(ctx)
	if err != nil {
		return err
	}
	for _, n := range []struct {
		files     int64
		one, many string
	}{
		{sum.UnplacedFiles, "has no place but this machine's bodies", "have no place but this machine's bodies"},
		{sum.ShortFiles, "has fewer copies than wanted, as there is no further place", "have fewer copies than wanted, as there is no further place"},
		{sum.PendingFiles, "waits for copies that are under way", "wait for copies that are under way"},
		{sum.Open, "is open for writing", "are open for writing"},
	} {
		text := fmt.Sprintf("%d files %s", n.files, n.many)
		switch n.files {
		case 0:
			continue
		case 1:
			text = "1 file " + n.one
		}
		if err := c.say(false, text); err != nil {
			return err
		}
	}
	return nil
}
