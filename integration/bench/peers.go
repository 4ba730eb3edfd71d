package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What a vault's copies are kept on, one kind a vault, and the bare streams beside them.
const (
	onDirectory = "directory"
	onGRPC      = "grpc"
	onHTTP      = "http"
)

// peers measures how fast content comes to a node and back, for each kind of node, in
// turns with the bare streams that it can't be faster than.
func (b *bench) peers(ctx context.Context) (err error) {
	kinds := slices.DeleteFunc([]string{onDirectory, onGRPC, onHTTP}, func(k string) bool { return !b.does(k) })
	if len(kinds) == 0 {
		return nil
	}
	f := transfers{}
	for round := range b.rounds {
		if err := b.bareStreams(ctx, round, kinds, f); err != nil {
			return err
		}
		for turn := range kinds {
			kind := kinds[(turn+round)%len(kinds)]
			if err := b.replica(ctx, round, kind, f); err != nil {
				return fmt.Errorf("a vault on a node by %s: %w", kind, err)
			}
		}
	}
	return f.print(b.out, kinds)
}

// bareStreams measures the streams alone.
func (b *bench) bareStreams(ctx context.Context, round int, kinds []string, f transfers) (err error) {
	far, viaGRPC, viaHTTP, err := b.startBare()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, far.close()) }()
	move := func(kind string, up bool) error {
		if kind == onGRPC {
			return bareGRPC(ctx, viaGRPC, up)
		}
		return barePlain(ctx, viaHTTP, up)
	}
	for _, kind := range kinds {
		if kind == onDirectory {
			continue
		}
		for _, up := range []bool{true, false} {
			near := &system{}
			m := meter{near: near, far: far}
			m.start()
			if err := move(kind, up); err != nil {
				return fmt.Errorf("a bare stream by %s: %w", kind, err)
			}
			b.took(round, f, figureName(up), bareOf(kind), m.stop())
		}
	}
	return nil
}

// replica is a vault whose only durable copies, but for what it adopts, are on one node.
type replica struct {
	b     *bench
	kind  string
	base  string
	mount string
	state string
	vault *system
	peer  *system // nil: the node is a directory
}

// replica measures one vault from its making to its end.
func (b *bench) replica(ctx context.Context, round int, kind string, f transfers) (err error) {
	r := &replica{b: b, kind: kind, base: filepath.Join(b.base, fmt.Sprintf("by-%s-%d", kind, round))}
	r.mount, r.state = filepath.Join(r.base, "mount"), filepath.Join(r.base, "state")
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.make(ctx); err != nil {
		return err
	}
	m := meter{near: r.vault, far: r.peer}
	if err := writeHuge(r.huge(), &m); err != nil {
		return err
	}
	if err := r.wait(ctx); err != nil {
		return err
	}
	b.took(round, f, copyHuge, kind, m.stop())
	r.vault.awaitIdle(ctx)
	syscall.Sync()

	if err := makeDirs(r.mount, manyFiles); err != nil {
		return err
	}
	if err := r.many(ctx, round, f, &m); err != nil {
		return err
	}
	if err := r.leaveOnlyNode(ctx); err != nil {
		return err
	}
	if err := dropCaches(); err != nil {
		fmt.Fprintln(b.log, "left out: cold reads:", err)
		return nil
	}
	m = meter{near: r.vault, far: r.peer}
	m.start()
	if err := readHuge(r.huge()); err != nil {
		return err
	}
	b.took(round, f, readBack, kind, m.stop())
	return nil
}

// many makes small files while nothing is sent, and takes the time from then on.
func (r *replica) many(ctx context.Context, round int, f transfers, m *meter) error {
	if _, err := output(ctx, r.b.tool("stasis"), "pause", r.mount); err != nil {
		return err
	}
	m.start()
	if err := createMany(r.mount, manyFiles); err != nil {
		return err
	}
	made := m.stop()
	m.start()
	if _, err := output(ctx, r.b.tool("stasis"), "resume", r.mount); err != nil {
		return err
	}
	if err := r.wait(ctx); err != nil {
		return err
	}
	copied := m.stop()
	r.b.took(round, f, makeMany, r.kind, made)
	r.b.took(round, f, copyMany, r.kind, copied)
	return nil
}

func (r *replica) huge() string { return filepath.Join(r.mount, "huge") }

// make starts the peer, if there is to be one, and the vault. A directory gets its copy
// beside another one, which adopts what is written, as the first directory always does.
func (r *replica) make(ctx context.Context) error {
	for _, dir := range []string{r.base, r.mount, r.state} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	settings := "copies = 1\n"
	if r.kind == onDirectory {
		settings = fmt.Sprintf("copies = 2\n\n[[node]]\nname = \"near\"\nkind = \"directory\"\npath = %q\n\n[[node]]\nname = \"far\"\nkind = \"directory\"\npath = %q\n",
			r.near(), filepath.Join(r.base, "far"))
	}
	if err := os.WriteFile(filepath.Join(r.state, "vault.toml"), []byte(settings), 0o600); err != nil {
		return err
	}
	if r.kind == onDirectory {
		return r.start(ctx)
	}
	if err := r.startPeer(); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	invite, err := output(ctx, r.b.tool("stasis"), "peer", "invite", r.peerState())
	if err != nil {
		return err
	}
	_, err = output(ctx, r.b.tool("stasis"), "node", "add", r.mount, "far", "peer", invitation.FindString(invite), "--protocol", r.kind)
	return err
}

func (r *replica) near() string      { return filepath.Join(r.base, "near") }
func (r *replica) peerState() string { return filepath.Join(r.base, "peer") }

// invitation is an invite in whatever line it stands.
var invitation = regexp.MustCompile(`stasis-invite-\d+-[a-z2-7]+`)

func (r *replica) startPeer() error {
	out, err := os.Create(filepath.Join(r.base, "peer.out"))
	if err != nil {
		return err
	}
	defer out.Close()
	r.peer = &system{name: "the peer"}
	err = r.peer.startTo(out, []string{r.b.tool("stasis-peer"), "--state", r.peerState(), "--listen", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"})
	if err != nil {
		r.peer = nil
		return err
	}
	err = await(func() bool {
		text, err := os.ReadFile(out.Name())
		return err == nil && bytes.Count(text, []byte("serving ")) == 2
	})
	if err != nil {
		return fmt.Errorf("the peer: %w: %s", err, r.peer.stderr)
	}
	return nil
}

func (r *replica) start(ctx context.Context) error {
	s := &system{name: "a vault by " + r.kind, dir: r.mount, leave: []string{r.b.tool("stasis"), "umount", r.mount}}
	if err := s.start([]string{r.b.tool("stasis-mount"), "--foreground", "--log-level", "warning", r.state, r.mount}); err != nil {
		return err
	}
	r.vault = s
	if err := s.awaitMount(ctx); err != nil {
		r.vault = nil // it is closed
		return err
	}
	return nil
}

// wait returns when every copy is verified.
func (r *replica) wait(ctx context.Context) error {
	_, err := output(ctx, r.b.tool("stasis"), "wait", "--timeout", waitTimeout.String(), r.mount)
	return err
}

// leaveOnlyNode starts the vault anew without its bodies, its cache and what it adopted.
func (r *replica) leaveOnlyNode(ctx context.Context) error {
	r.vault.awaitIdle(ctx)
	if err := r.vault.close(); err != nil {
		return err
	}
	r.vault = nil
	for _, dir := range []string{"bodies", "cache"} {
		if err := os.RemoveAll(filepath.Join(r.state, dir)); err != nil {
			return err
		}
	}
	if r.kind == onDirectory {
		if err := os.RemoveAll(r.near()); err != nil {
			return err
		}
	}
	return r.start(ctx)
}

// end stops what runs and removes it all.
func (r *replica) end() error {
	var err error
	if r.vault != nil {
		err = r.vault.close()
	}
	if r.peer != nil {
		err = errors.Join(err, r.peer.close())
	}
	return errors.Join(err, os.RemoveAll(r.base))
}

// await polls until done, for mountTimeout at most.
func await(done func() bool) error {
	for deadline := time.Now().Add(mountTimeout); !done(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return errors.New("it does not serve in " + mountTimeout.String())
		}
	}
	return nil
}

func (b *bench) tool(name string) string { return filepath.Join(b.bin, name) }

// does reports whether a part is to be measured.
func (b *bench) does(part string) bool { return len(b.only) == 0 || slices.Contains(b.only, part) }

// checkOnly refuses names of parts that there are not.
func (b *bench) checkOnly() error {
	for _, part := range b.only {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("there is no part %q to measure; there are %s", part, strings.Join(parts, ", "))
		}
	}
	return nil
}
