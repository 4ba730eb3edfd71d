package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Background starts a program of this module that runs until the test ends, when it is
// killed.
func Background(t testing.TB, c Command) {
	t.Helper()
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
}

// Peer is a state directory and the stasis-peer that serves it, if one runs.
type Peer struct {
	t     testing.TB
	Base  string // holds what belongs to the peer, unless a test puts it elsewhere
	State string
	Flags []string // given to stasis-peer beside --state, --listen and --listen-http
	Env   []string // of every command; HOME is in Base
	// Net is where it lives, and Host the address there; nil and loopback at first.
	Net  *Net
	Host string
	// GRPC and HTTP are where it serves, as host:port. A peer that is started again
	// serves at the same.
	GRPC, HTTP  string
	Fingerprint string

	starts int
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
}

// NewPeer makes the directories for a peer. Nothing runs yet. When the test ends the
// peer is killed.
func NewPeer(t testing.TB) *Peer {
	t.Helper()
	return NewPeerAt(t, filepath.Join(Dir(t), "peer"))
}

// NewPeerAt is NewPeer with a state directory somewhere else.
func NewPeerAt(t testing.TB, state string) *Peer {
	t.Helper()
	Binary(t, peerProgram)
	p := &Peer{t: t, Base: Dir(t), State: state, Host: "127.0.0.1"}
	p.Env = commandEnv(Mkdir(t, p.Base, "home"))
	t.Cleanup(p.end)
	return p
}

// Settings writes peer.toml.
func (p *Peer) Settings(format string, args ...any) {
	p.t.Helper()
	Mkdir(p.t, p.State)
	if err := os.Chmod(p.State, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := writeSynced(filepath.Join(p.State, "peer.toml"), fmt.Appendf(nil, format, args...)); err != nil {
		p.t.Fatal(err)
	}
}

// writeSynced writes a file that a power cut does not take back.
func writeSynced(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// serving is the line with which a peer says where it serves.
var serving = regexp.MustCompile(`(?m)^serving (grpc|http) (\S+) fingerprint (\S+)`)

// Start starts the peer and waits until it serves both protocols.
func (p *Peer) Start() {
	p.t.Helper()
	if p.Running() {
		p.t.Fatal("the peer runs already")
	}
	p.starts++
	out := p.output("out")
	if err := p.launch(out); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, endLimit, "a peer that serves", func() (bool, string) {
		text, err := os.ReadFile(out)
		if err != nil {
			return false, err.Error()
		}
		found := serving.FindAllStringSubmatch(string(text), -1)
		for _, f := range found {
			p.Fingerprint = f[3]
			if f[1] == "grpc" {
				p.GRPC = f[2]
			} else {
				p.HTTP = f[2]
			}
		}
		if len(found) < 2 && !p.Running() {
			p.t.Fatalf("the peer has ended\n%s", p.Log())
		}
		return len(found) >= 2, string(text)
	})
}

// launch starts the process, with its standard output going to a file.
func (p *Peer) launch(out string) error {
	listen := func(known string) string {
		if known != "" {
			return known
		}
		return p.Host + ":0"
	}
	args := append(p.Net.enter(), filepath.Join(runDir, binDir, peerProgram), "--state", p.State,
		"--listen", listen(p.GRPC), "--listen-http", listen(p.HTTP))
	args = append(args, p.Flags...)
	stdout, err := os.Create(out)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.Create(p.output("err"))
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its ProcessState
	}()
	p.cmd, p.ended = cmd, ended
	return nil
}

// output is where the last start writes.
func (p *Peer) output(kind string) string {
	return filepath.Join(p.Base, fmt.Sprintf("%d.%s", p.starts, kind))
}

// Running reports whether the process is there.
func (p *Peer) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// PID is the process id of the peer, 0 if none runs.
func (p *Peer) PID() int {
	if !p.Running() {
		return 0
	}
	return p.cmd.Process.Pid // nsenter becomes the peer
}

// Stop ends the peer by SIGTERM, which has to work.
func (p *Peer) Stop() {
	p.t.Helper()
	p.signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(endLimit):
		p.t.Fatalf("the peer has not ended %s after SIGTERM\n%s", endLimit, p.Log())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("the peer ended with %d after SIGTERM\n%s", code, p.Log())
	}
}

// Kill kills the peer as kill -9 does.
func (p *Peer) Kill() {
	p.t.Helper()
	p.signal(unix.SIGKILL)
	select {
	case <-p.ended:
	case <-time.After(endLimit):
		p.t.Fatalf("the peer is still there %s after SIGKILL", endLimit)
	}
}

// Freeze stops the peer where it stands; Thaw lets it go on.
func (p *Peer) Freeze() { p.t.Helper(); p.signal(unix.SIGSTOP) }

// Thaw lets a frozen peer go on.
func (p *Peer) Thaw() { p.t.Helper(); p.signal(unix.SIGCONT) }

func (p *Peer) signal(s unix.Signal) {
	p.t.Helper()
	pid := p.PID()
	if pid == 0 {
		p.t.Fatalf("no peer to send %v\n%s", s, p.Log())
	}
	if err := unix.Kill(pid, s); err != nil {
		p.t.Fatalf("send %v to the peer: %v", s, err)
	}
}

// Stasis runs `stasis ARGS` where the peer lives.
func (p *Peer) Stasis(args ...string) Result {
	p.t.Helper()
	return Run(p.t, Command{Args: append(append(p.Net.enter(), Binary(p.t, "stasis")), args...), Env: p.Env})
}

// OK runs `stasis ARGS`, which has to succeed, and gives what it printed.
func (p *Peer) OK(args ...string) string {
	p.t.Helper()
	r := p.Stasis(args...)
	if r.Code != 0 {
		p.t.Fatal(r)
	}
	return r.Stdout
}

// invitation is an invite in whatever line it stands.
var invitation = regexp.MustCompile(`stasis-invite-\d+-[a-z2-7]+`)

// Invite makes an invite and gives its text.
func (p *Peer) Invite(flags ...string) string {
	p.t.Helper()
	out := p.OK(append([]string{"peer", "invite", p.State}, flags...)...)
	text := invitation.FindString(out)
	if text == "" {
		p.t.Fatalf("`stasis peer invite` printed no invite: %s", out)
	}
	return text
}

// Status asks the peer.
func (p *Peer) Status() Status {
	p.t.Helper()
	var s Status
	readJSON(p.t, &s, p.OK("status", p.State, "--json"))
	return s
}

// Log is the end of what the peer logged since it was started last.
func (p *Peer) Log() string {
	var b strings.Builder
	for _, path := range []string{p.output("out"), p.output("err"), filepath.Join(p.State, "stasis.log")} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it logs to one of them
		}
		fmt.Fprintf(&b, "%s:\n", filepath.Base(path))
		b.Write(text[max(0, len(text)-logTail):])
	}
	return b.String()
}

// end leaves nothing behind.
func (p *Peer) end() {
	if p.t.Failed() {
		p.t.Logf("the log of %s ends:\n%s", p.State, p.Log())
	}
	if pid := p.PID(); pid != 0 && !killAndWait(pid) {
		p.t.Errorf("peer %d can't be killed", pid)
	}
	if p.ended != nil {
		<-p.ended
	}
}
