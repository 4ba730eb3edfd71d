package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// workerVariable tells a process that it does operations for a test; the value is the
// kind of operation to lose, for the test of the test, or "-".
const workerVariable = "STASIS_TEST_WORKER"

// workerLimit bounds one request to a worker. A mount that hangs ends here.
const workerLimit = 90 * time.Second

// A request is a batch of operations, done one after another to both sides, or one of the
// other things a worker does.
type request struct {
	Want, Got string // the sides' roots
	Ops       []modelOp
	Fresh     bool // be as a new process first
	Closes    bool // close every file first
	Compare   bool // compare the trees at the end
	Killed    bool // the daemon may be killed meanwhile: stop at what that cuts off
	OnlyWant  bool // do them to the model alone
	// Unsure are inodes of the model's side that were being written at a kill; see settle.
	Unsure []uint64
	Births bool // the mount never uses the number of an inode again
}

// A reply says what went wrong, if anything.
type reply struct {
	Done       int      // operations that both sides did
	Difference string   // of the operation number Done, or of the trees
	Writing    []uint64 // inodes of the model's side that are open for writing
	Files      []int    // slots of open files
	Taken      []int    // slots of open files and sockets
	Maps       []int    // slots of mappings
	Cut        bool     // the operation number Done met a daemon that was killed
}

// serveWorker is the main loop of a worker process.
func serveWorker(lose string) int {
	want, got := newSide("", ""), newSide("", lose)
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q request
		if err := in.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return 0
			}
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 1
		}
		want.root, got.root = q.Want, q.Got
		r := answer(q, want, got)
		r.Writing = want.writing()
		r.Maps = slices.Sorted(maps.Keys(want.maps))
		for _, slot := range slices.Sorted(maps.Keys(want.files)) {
			r.Taken = append(r.Taken, slot)
			if !isSocket(want.files[slot]) {
				r.Files = append(r.Files, slot)
			}
		}
		if err := out.Encode(r); err != nil {
			return 1
		}
	}
}

func answer(q request, want, got *side) reply {
	if q.Fresh {
		unix.Umask(0o022)
		if err := limitFiles(unix.RLIM_INFINITY); err != nil {
			return reply{Difference: err.Error()}
		}
	}
	if q.Closes {
		want.closeAll()
		got.closeAll()
	}
	for i, op := range q.Ops {
		if q.OnlyWant {
			want.do(op)
			continue
		}
		// The mount first: what a kill cut off is not done to the model either.
		b := got.do(op)
		if q.Killed && cutOff(b.err) {
			return reply{Done: i, Cut: true}
		}
		if diff := want.do(op).same(b); diff != "" {
			return reply{Done: i, Difference: diff}
		}
	}
	r := reply{Done: len(q.Ops)}
	if len(q.Unsure) > 0 {
		if err := settle(want, got, q.Unsure); err != nil {
			return reply{Done: len(q.Ops), Difference: err.Error()}
		}
	}
	if q.Compare {
		r.Difference = sameTrees(want, got, q.Births)
	}
	return r
}

// cutOff reports whether an error, around a kill, means that nobody answered: the kernel
// says EIO where the daemon died while it was taking the request.
func cutOff(err error) bool {
	return err == unix.ENOTCONN || err == unix.ECONNABORTED || err == unix.EIO
}

// worker is a process that does operations.
type worker struct {
	t       testing.TB
	name    string
	cmd     *exec.Cmd
	in      *json.Encoder
	close   func() error
	replies chan reply
}

// startWorker starts a process as somebody, or as who we are; it ends with the test.
func startWorker(t testing.TB, binary, name string, who *syscall.Credential, lose string) *worker {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), workerVariable+"="+lose)
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &worker{t: t, name: name, cmd: cmd, in: json.NewEncoder(in), close: in.Close, replies: make(chan reply, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(w.replies)
		for dec := json.NewDecoder(out); ; {
			var r reply
			if dec.Decode(&r) != nil {
				return
			}
			w.replies <- r
		}
	}()
	t.Cleanup(func() {
		_ = w.close()
		select {
		case <-ended:
		case <-time.After(workerLimit):
			t.Errorf("%s does not end", name)
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait() // how it ends says nothing
	})
	return w
}

// send starts a request, receive waits for its reply.
func (w *worker) send(q request) error {
	return w.in.Encode(q)
}

func (w *worker) receive() (reply, error) {
	select {
	case r, ok := <-w.replies:
		if !ok {
			return r, fmt.Errorf("%s ended", w.name)
		}
		return r, nil
	case <-time.After(workerLimit):
		return reply{}, fmt.Errorf("%s is stuck in a call for %s", w.name, workerLimit)
	}
}

// ask is send and receive.
func (w *worker) ask(q request) (reply, error) {
	if err := w.send(q); err != nil {
		return reply{}, err
	}
	return w.receive()
}

// workerBinary is a copy of this program that every user may run. It lies beside the
// binaries, so that what is left of it is found and ended.
func workerBinary(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(harness.Binary(t, "stasis")), "worker-"+t.Name())
	if _, err := os.Stat(path); err == nil {
		return path
	}
	harness.Must(t, "cp", self, path)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
