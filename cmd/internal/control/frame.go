package control

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"stasis/cmd/internal/terminal"
	"stasis/store"
)

// request is what a client sends.
type request struct {
	Op    string          `json:"op"`
	Mount string          `json:"mount,omitempty"` // the device number of the mount it is about
	Args  json.RawMessage `json:"args,omitempty"`
}

// response is one frame of the answer.
type response struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *remoteError    `json:"error,omitempty"`
}

// remoteError carries an error's kind and text.
type remoteError struct {
	Kind store.Kind `json:"kind"`
	Text string     `json:"text"`
	// Other: the request is about a mount that this server does not serve.
	Other bool `json:"other_mount,omitempty"`
}

func (e *remoteError) Error() string { return terminal.Lines(e.Text) }

// Is lets errors.Is(err, store.NotFound) work on this side as on the other.
func (e *remoteError) Is(target error) bool {
	if target == ErrOtherMount {
		return e.Other
	}
	k, ok := target.(store.Kind)
	return ok && k == e.Kind
}

func writeFrame(w io.Writer, v any, limit int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > limit {
		return fmt.Errorf("a frame of %d bytes is longer than the limit of %d", len(body), limit)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func readFrame(r io.Reader, v any, limit uint32) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return fmt.Errorf("a frame of %d bytes is longer than the limit of %d", n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}
