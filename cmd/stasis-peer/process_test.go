package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/control"
)

// asProgram makes the test binary the program itself.
const asProgram = "STASIS_PEER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is a stasis-peer of its own process.
type program struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr string // the file
}

func launch(t *testing.T, notify string, args ...string) *program {
	t.Helper()
	p := &program{stderr: filepath.Join(t.TempDir(), "stderr")}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+notify)
	log, err := os.Create(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// line is the next line on stdout.
func (p *program) line(t *testing.T) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		s, _ := p.out.ReadString('\n')
		got <- s
	}()
	select {
	case s := <-got:
		return strings.TrimSuffix(s, "\n")
	case <-time.After(20 * time.Second):
		t.Fatalf("it says nothing; stderr: %s", p.errors(t))
		return ""
	}
}

func (p *program) errors(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ended is the exit code.
func (p *program) ended(t *testing.T) int {
	t.Helper()
	rest, err := io.ReadAll(p.out)
	if err != nil || len(rest) > 0 {
		t.Errorf("left on stdout: %q, %v", rest, err)
	}
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end; stderr: %s", p.errors(t))
		return 0
	}
}

var serving = regexp.MustCompile(`^serving (grpc|http) (127\.0\.0\.1:[1-9]\d*) fingerprint ([a-z2-7]{52})$`)

// Users script against the lines on stdout, service managers against the messages and
// the signals.
func TestServes(t *testing.T) {
	dir := t.TempDir()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	told := func() string {
		t.Helper()
		buf := make([]byte, 256)
		if err := notify.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := notify.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	state := filepath.Join(dir, "peer")
	p := launch(t, filepath.Join(dir, "notify"), "--state", state, "--listen", "127.0.0.1:0", "--listen-http", "127.0.0.1:0")
	grpc, http := serving.FindStringSubmatch(p.line(t)), serving.FindStringSubmatch(p.line(t))
	if grpc == nil || http == nil || grpc[1] != "grpc" || http[1] != "http" || grpc[3] != http[3] || grpc[2] == http[2] {
		t.Fatalf("it says %q and %q; stderr: %s", grpc, http, p.errors(t))
	}
	if s := told(); !strings.HasPrefix(s, "READY=1\nMAINPID=") {
		t.Errorf("the service manager was told %q", s)
	}
	for _, address := range []string{grpc[2], http[2]} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Error(err)
			continue
		}
		defer c.Close() // one that says nothing does not hold up the end
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var s api.Status
	if err := control.Call(ctx, state, api.OpStatus, 0, nil, &s, nil); err != nil || s.State != api.StateSafe {
		t.Errorf("status: %+v, %v", s, err)
	}
	if err := os.WriteFile(filepath.Join(state, config.PeerFileName), []byte(config.DefaultPeer+"capacity = \"64MiB\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); s.Nodes[0].Capacity != 64<<20; time.Sleep(20 * time.Millisecond) {
		if err := control.Call(ctx, state, api.OpStatus, 0, nil, &s, nil); err != nil || time.Now().After(end) {
			t.Fatalf("after SIGHUP: %+v, %v; stderr: %s", s, err, p.errors(t))
		}
	}
	second := launch(t, "", "--state", state, "--listen", "127.0.0.1:0")
	if code := second.ended(t); code != exitFailed || !strings.Contains(second.errors(t), "in use by pid") {
		t.Errorf("a second one on the same state ends with %d: %s", code, second.errors(t))
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if s := told(); s != "STOPPING=1" {
		t.Errorf("at the end the service manager was told %q", s)
	}
	if code := p.ended(t); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("it ended with %d after %s; stderr: %s", code, time.Since(began), p.errors(t))
	}
}

// What can't be is said on stderr, with the exit code that tells a slip from a failure.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "photo"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for words, c := range map[string]struct {
		code int
		args []string
	}{
		"other content":          {exitFailed, []string{"--state", dir}},
		"has no port":            {exitUsage, []string{"--listen", "nas"}},
		"address already in use": {exitFailed, []string{"--state", filepath.Join(dir, "new"), "--listen", taken.Addr().String()}},
	} {
		p := launch(t, "", c.args...)
		if code := p.ended(t); code != c.code || !strings.Contains(p.errors(t), words) {
			t.Errorf("%s: exit code %d, %s", words, code, p.errors(t))
		}
	}
}
