package grpcpeer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/mem"

	"stasis/peer/wire"
	"stasis/store"
)

// outgoingFrame is a frame that came as one that can be sent again.
func outgoingFrame(t *testing.T, f *frame) *frame {
	t.Helper()
	out := &frame{kind: f.kind, head: f.head}
	if f.in != nil {
		p, err := io.ReadAll(f.in)
		if err != nil {
			t.Fatal(err)
		}
		out.body = mem.SliceBuffer(p)
	}
	return out
}

// goldenFrames are one of each kind.
func goldenFrames(t *testing.T) map[string]*frame {
	t.Helper()
	head := func(k kind, message any) *frame {
		f, err := headFrame(k, message)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	return map[string]*frame{
		"head": head(kindHead, wire.Crate{ID: store.CrateID{1, 2, 3}}), "data": dataFrame([]byte("some bytes")), "begin": head(kindBegin, wire.Begin{Offset: 3 << 20}),
		"alive": {kind: kindAlive}, "abort": {kind: kindAbort},
	}
}

// What an earlier release sent is read as it was meant, and sent the same.
func TestGoldenFrames(t *testing.T) {
	for name, f := range goldenFrames(t) {
		parts, err := codec{}.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		sent := parts.Materialize()
		path := filepath.Join("testdata", "golden", name+".hex")
		golden, err := os.ReadFile(path)
		if os.IsNotExist(err) && os.Getenv("STASIS_GOLDEN") == "new" {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, fmt.Appendf(nil, "%x\n", sent), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		was, err := hex.DecodeString(string(bytes.TrimSpace(golden)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(was, sent) {
			t.Errorf("%s: is sent as %x, want %x", name, sent, was)
		}
		// In pieces, as the transport hands them over.
		var got frame
		if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(was[:3]), mem.SliceBuffer(was[3:])}, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back := outgoingFrame(t, &got)
		if back.kind != f.kind || !bytes.Equal(back.head, f.head) || (back.body == nil) != (f.body == nil) ||
			f.body != nil && !bytes.Equal(back.body.ReadOnlyData(), f.body.ReadOnlyData()) {
			t.Errorf("%s: reads as %+v, want %+v", name, back, f)
		}
	}
}

// A reader of any size gets the bytes of the frames one after another, and an abort in the
// midst of them as an error.
func TestBody(t *testing.T) {
	for _, size := range []int{1, 7, 100} {
		var want []byte
		frames := []*frame{{kind: kindAlive}}
		for i := range 5 {
			p := pattern(10 * i)
			want = append(want, p...)
			frames = append(frames, cameAs(t, dataFrame(p)))
		}
		b := body{recv: func() (*frame, error) {
			if len(frames) == 0 {
				return nil, io.EOF
			}
			f := frames[0]
			frames = frames[1:]
			return f, nil
		}}
		var got []byte
		p := make([]byte, size)
		for {
			n, err := b.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("by %d bytes: %d came, not the %d sent", size, len(got), len(want))
		}
		frames = []*frame{cameAs(t, &frame{kind: kindAbort})}
		if _, err := b.Read(p); err == nil || err == io.EOF {
			t.Errorf("an abort reads as %v", err)
		}
	}
}

// A source is closed when its call ends, whatever its reader is doing: the reader must not
// get bytes of a buffer that has gone on to somebody else.
func TestBodyIsClosedMeanwhile(t *testing.T) {
	coming := make(chan *frame)
	b := body{recv: func() (*frame, error) { return <-coming, nil }}
	done := make(chan error)
	go func() {
		p := make([]byte, 1)
		for {
			if _, err := b.Read(p); err != nil {
				done <- err
				return
			}
		}
	}()
	coming <- cameAs(t, dataFrame(pattern(10)))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, store.Unavailable) {
			t.Errorf("a read of what is closed says %v", err)
		}
	case coming <- cameAs(t, dataFrame(pattern(10))):
		if err := <-done; !errors.Is(err, store.Unavailable) {
			t.Errorf("a read of what is closed says %v", err)
		}
	}
}

func cameAs(t *testing.T, f *frame) *frame {
	t.Helper()
	parts, err := codec{}.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	got := new(frame)
	if err := (codec{}).Unmarshal(parts, got); err != nil {
		t.Fatal(err)
	}
	return got
}
