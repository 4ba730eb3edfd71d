package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"stasis/peer/grpcpeer"
	"stasis/peer/wire"
	"stasis/store"
)

// caller is who attacks: no certificate, one that nobody knows, that of an owner.
type caller int

const (
	bare caller = iota
	unknown
	invited
)

// attack is what one connection does to the peer until it is told to end, or the peer ends
// it. HTTP and gRPC are attacked at once.
type attack struct {
	name  string
	as    caller
	plain bool // without TLS
	// few says that each connection does much; so there are fewer.
	few bool
	// share says that over gRPC there are no more than an owner may have, whose writes are
	// then not held up by those of the others.
	share bool
	// slow says that its bytes cost the peer far more time than others, so that there are
	// fewer.
	slow bool
	// takes is what the peer may hold for it, in bytes.
	takes      int64
	http, grpc func(ctx context.Context, s *siege, c net.Conn, number int) error
}

// attacks are all of them. Those that really have a peer take memory are the last, as what
// they leave is given back only when it rests.
var attacks = []attack{
	{name: "handshakes that never end", plain: true, takes: ofStrangers, http: halfHandshake, grpc: halfHandshake},
	{name: "no certificate", as: bare, takes: ofStrangers, http: silence, grpc: silence},
	{name: "strangers who say nothing", as: unknown, takes: ofStrangers, http: silence, grpc: silence},
	{name: "strangers who fill what they may", as: unknown, takes: ofStrangers, http: longInvites, grpc: fillInvites},
	{name: "a header a byte a second", as: invited, takes: ofStrangers + inPlaces, http: trickleHeader, grpc: trickleFrames},
	{name: "a body a byte a second", as: invited, takes: inPlaces + inStore, http: trickleBody, grpc: trickleCalls},
	{name: "headers too long", as: invited, slow: true, takes: inPlaces, http: longHeader, grpc: longHeaders},
	{name: "bodies too long", as: invited, slow: true, takes: inPlaces + inStore, http: longBody, grpc: longMessages},
	{name: "JSON that grows", as: invited, slow: true, few: true, takes: inPlaces + inCalls, http: growingJSON, grpc: growingMessages},
	{name: "calls filled and never ended", as: invited, share: true, takes: inPlaces + inStore, http: longFences, grpc: fillPuts(16 << 10)},
	{name: "calls filled by single bytes", as: invited, few: true, share: true, takes: inPlaces + inStore, http: singleChunks, grpc: fillPuts(1)},
	{name: "answers never taken", as: invited, few: true, takes: inPlaces + inCalls, http: unread, grpc: untakenAnswers},
	{name: "floods of frames", as: invited, slow: true, few: true, takes: inPlaces + inCalls, http: manyRequests, grpc: flood},
	{name: "half a request, then gone", as: invited, takes: inPlaces + inStore, http: abandon, grpc: abandonCalls},
	{name: "crates asked for and not read", as: invited, takes: inPlaces + inCalls, http: unread, grpc: unreadCalls},
	{name: "batches that never end", as: invited, few: true, takes: inPlaces + inBatches, http: claimBatch, grpc: claimBatches},
	{name: "calls begun and reset", as: invited, slow: true, few: true, takes: inPlaces + inStore, http: abandon, grpc: rapidReset},
}

// patience is how long an attacker waits to be let send more, before he goes to the next
// call.
const patience = 50 * time.Millisecond

// halfHandshake begins TLS and does not go on.
func halfHandshake(ctx context.Context, _ *siege, c net.Conn, _ int) error {
	if _, err := c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// silence says nothing, and waits to be thrown out.
func silence(_ context.Context, _ *siege, c net.Conn, _ int) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// slowly says a byte a second until it may not any more.
func slowly(ctx context.Context, c io.Writer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
	}
}

func trickleHeader(ctx context.Context, _ *siege, c net.Conn, _ int) error {
	if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "); err != nil {
		return err
	}
	return slowly(ctx, c)
}

// trickleFrames begins HTTP/2, half of the callers at its very first bytes.
func trickleFrames(ctx context.Context, _ *siege, c net.Conn, number int) error {
	begin := http2.ClientPreface[:10]
	if number%2 == 0 { // settings, and the beginning of 4 KiB of headers
		begin = http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x10\x00\x01\x04\x00\x00\x00\x01"
	}
	if _, err := io.WriteString(c, begin); err != nil {
		return err
	}
	return slowly(ctx, c)
}

func (s *siege) putHead(size int64) string {
	return fmt.Sprintf("PUT /v1/crates/%s HTTP/1.1\r\nHost: x\r\nStasis-Reservation: %s\r\nContent-Range: bytes 0-%d/%d\r\n", store.NewCrateID(), s.grant, size-1, size)
}

func trickleBody(ctx context.Context, s *siege, c net.Conn, _ int) error {
	if _, err := io.WriteString(c, s.putHead(8<<20)+fmt.Sprintf("Content-Length: %d\r\n\r\n", 8<<20)); err != nil {
		return err
	}
	return slowly(ctx, c)
}

// trickleCalls opens puts, of which half get nothing after their header.
func trickleCalls(ctx context.Context, s *siege, c net.Conn, _ int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	if err != nil {
		return err
	}
	for n := range s.calls {
		id, err := h.open("Put")
		if err == nil && n%2 == 0 {
			err = h.data(id, message(wire.PutHead{Reservation: s.grant, Crate: store.NewCrateID(), Size: 8 << 20}), 1<<14, patience)
		}
		if err != nil {
			return err
		}
	}
	return h.ended()
}

// bigBatch is the largest batch.
func (s *siege) bigBatch() wire.Batch {
	var b wire.Batch
	for range wire.MaxBatchBytes / wire.MaxBatchCrate {
		b.Crates = append(b.Crates, wire.PutHead{Reservation: s.grant, Crate: store.NewCrateID(), Size: wire.MaxBatchCrate})
	}
	return b
}

// claimBatch sends all of a batch but its last bytes.
func claimBatch(ctx context.Context, s *siege, c net.Conn, _ int) error {
	head, err := json.Marshal(s.bigBatch())
	if err != nil {
		return err
	}
	head = append(head, '\n')
	_, err = io.WriteString(c, fmt.Sprintf("POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(head)+wire.MaxBatchBytes, head))
	for n := 1; err == nil && n < wire.MaxBatchBytes>>14; n++ {
		_, err = c.Write(s.zeros[:1<<14])
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func claimBatches(_ context.Context, s *siege, c net.Conn, _ int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	if err != nil {
		return err
	}
	var ids []uint32
	for range 8 {
		id, err := h.open("Batch")
		if err == nil {
			err = h.data(id, message(s.bigBatch()), 1<<14, patience)
		}
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for range wire.MaxBatchBytes/wire.DataSize - 1 {
		for _, id := range ids {
			piece := append(announced(5+wire.DataSize, []byte{2, 0, 0, 0, 0}), s.zeros[:wire.DataSize]...)
			if err := h.data(id, piece, 1<<14, patience); err != nil {
				return err
			}
		}
	}
	return h.ended()
}

func longHeader(_ context.Context, s *siege, c net.Conn, _ int) error {
	if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n"); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", n, strings.Repeat("x", 1000)); err != nil {
			return err
		}
	}
}

// longHeaders flood with header that never ends, and with long ones of calls that stay.
func longHeaders(ctx context.Context, s *siege, c net.Conn, number int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	if err != nil {
		return err
	}
	if number%2 == 0 {
		for range s.calls {
			// Names that the table has cost a byte each time.
			var more []hpack.HeaderField
			for range 100 {
				more = append(more, hpack.HeaderField{Name: "x-filler", Value: strings.Repeat("x", 500)})
			}
			if _, err := h.open("Events", more...); err != nil {
				return err
			}
		}
		return h.ended()
	}
	err = h.write(func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block("Status")})
	})
	for err == nil && ctx.Err() == nil {
		err = h.write(func(fr *http2.Framer) error {
			h.text.Reset()
			_ = h.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 1000), Sensitive: true})
			return fr.WriteContinuation(1, false, h.text.Bytes())
		})
	}
	return err
}

// longBody says a length that is too great, or sends without end.
func longBody(ctx context.Context, s *siege, c net.Conn, number int) error {
	request := "POST /v1/fence HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n"
	switch number % 3 {
	case 1:
		request = s.putHead(5000) + "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n"
	case 2:
		request = "PUT /v1/reservations/" + s.grant.String() + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n"
	}
	_, err := io.WriteString(c, request)
	for err == nil && ctx.Err() == nil {
		_, err = c.Write(s.zeros[:1<<16])
	}
	return err
}

func longMessages(_ context.Context, s *siege, c net.Conn, number int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	if err != nil {
		return err
	}
	if number%2 == 0 { // a frame of 16 MiB
		id, err := h.open("Reserve")
		if err == nil {
			err = h.write(func(*http2.Framer) error {
				_, err := c.Write(append([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, byte(id)}, s.zeros...))
				return err
			})
		}
		if err != nil {
			return err
		}
		return h.ended()
	}
	for range s.calls {
		id, err := h.open("Reserve")
		if err == nil {
			err = h.data(id, append([]byte{0, 0x7f, 0xff, 0xff, 0xff}, s.zeros...), 1<<14, patience)
		}
		if err != nil {
			return err
		}
	}
	return h.ended()
}

// growing is JSON that takes far more memory than bytes.
func growing(size int) []byte {
	return append(append([]byte(`{"crates":[`), bytes.Repeat([]byte("{},"), (size-20)/3)...), "{}]}"...)
}

func growingJSON(ctx context.Context, s *siege, c net.Conn, _ int) error {
	go io.Copy(io.Discard, c)
	text := append(growing(250<<10), '\n')
	for ctx.Err() == nil {
		if _, err := fmt.Fprintf(c, "POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(text), text); err != nil {
			return err
		}
	}
	return nil
}

func growingMessages(ctx context.Context, s *siege, c net.Conn, _ int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	for err == nil && ctx.Err() == nil {
		var id uint32
		if id, err = h.open("Batch"); err == nil {
			text := growing(250 << 10)
			head := append([]byte{1, byte(len(text) >> 24), byte(len(text) >> 16), byte(len(text) >> 8), byte(len(text))}, text...)
			err = h.data(id, announced(len(head), head), 1<<14, patience)
		}
	}
	return err
}

// fillInvites sends on many calls as much as the peer lets a stranger.
func fillInvites(ctx context.Context, s *siege, c net.Conn, _ int) error {
	return s.fill(ctx, c, 16<<10, "Redeem", func(int) []byte {
		return append(announced(grpcpeer.MaxRequest, nil), s.zeros[:grpcpeer.MaxRequest-1]...)
	})
}

// fillPuts begins many puts. It keeps the peer busy with the first of them, of which it sends
// nothing, and sends on the others as much as the peer lets it in frames of a size.
func fillPuts(size int) func(context.Context, *siege, net.Conn, int) error {
	return func(ctx context.Context, s *siege, c net.Conn, _ int) error {
		return s.fill(ctx, c, size, "Put", func(n int) []byte {
			head := message(wire.PutHead{Reservation: s.grant, Crate: store.NewCrateID(), Size: 2 << 20})
			if n < grpcpeer.PutsAnOwner+grpcpeer.PutsPool {
				return head
			}
			return append(append(head, announced(grpcpeer.MaxRequest, []byte{2, 0, 0, 0, 0})...), s.zeros...)
		})
	}
}

func (s *siege) fill(ctx context.Context, c net.Conn, size int, call string, what func(n int) []byte) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	for n := 0; err == nil && ctx.Err() == nil && n < s.calls; n++ {
		var id uint32
		if id, err = h.open(call); err == nil {
			err = h.data(id, what(n), size, 20*time.Millisecond)
		}
	}
	if err != nil {
		return err
	}
	return h.ended()
}

// singleChunks sends JSON in chunks of one byte.
func singleChunks(ctx context.Context, s *siege, c net.Conn, _ int) error {
	_, err := io.WriteString(c, "POST /v1/batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunks := bytes.Repeat([]byte("1\r\n \r\n"), 4<<10)
	for err == nil && ctx.Err() == nil {
		_, err = c.Write(chunks)
	}
	return err
}

// untakenAnswers makes calls whose answers it has no room for.
func untakenAnswers(ctx context.Context, s *siege, c net.Conn, _ int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 0, true)
	for err == nil && ctx.Err() == nil && int(h.next) < 2*s.calls {
		var id uint32
		if id, err = h.open("Open"); err == nil {
			err = h.data(id, message(wire.Range{Crate: s.big, Length: -1}), 1<<14, patience)
		}
	}
	if err != nil {
		return err
	}
	return h.ended()
}

// manyRequests asks without end and takes no answer.
func manyRequests(ctx context.Context, s *siege, c net.Conn, _ int) error {
	for ctx.Err() == nil {
		if _, err := io.WriteString(c, "GET /v1/crates HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
	}
	return nil
}

func unread(ctx context.Context, s *siege, c net.Conn, _ int) error {
	if _, err := fmt.Fprintf(c, "GET /v1/crates/%s HTTP/1.1\r\nHost: x\r\n\r\n", s.big); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func unreadCalls(ctx context.Context, s *siege, c net.Conn, _ int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 1<<30, false)
	if err != nil {
		return err
	}
	h.settled, h.initial, h.whole = true, 65535, 65535
	for range s.calls {
		id, err := h.open("Open")
		if err == nil {
			err = h.data(id, message(wire.Range{Crate: s.big, Length: -1}), 1<<14, patience)
		}
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func rapidReset(ctx context.Context, _ *siege, c net.Conn, _ int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	for err == nil && ctx.Err() == nil {
		var id uint32
		if id, err = h.open("Status"); err == nil {
			err = h.write(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeCancel) })
		}
	}
	return err
}

// flood sends frames of some kind without end, while nothing that comes is read.
func flood(ctx context.Context, s *siege, c net.Conn, number int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 1<<30, false)
	if err != nil {
		return err
	}
	h.settled = true
	id, err := h.open("Open")
	if err == nil {
		err = h.data(id, message(wire.Range{Crate: s.big, Length: -1}), 1<<14, patience)
	}
	var many bytes.Buffer
	for fr := http2.NewFramer(&many, nil); err == nil && many.Len() < 32<<10; {
		switch number % 4 {
		case 0:
			err = fr.WritePing(false, [8]byte{})
		case 1:
			err = fr.WriteSettings()
		case 2:
			err = fr.WriteWindowUpdate(id, 1)
		default:
			err = fr.WriteRSTStream(id+2, http2.ErrCodeCancel)
		}
	}
	for err == nil && ctx.Err() == nil {
		_, err = c.Write(many.Bytes())
	}
	return err
}

// leave ends a connection amid something: its sending half, by a reset, or without a word.
func leave(ctx context.Context, c net.Conn, number int) error {
	t := c.(*tls.Conn)
	raw := t.NetConn().(paced)
	switch number % 3 {
	case 0:
		if err := t.CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, t)
		return err
	case 1:
		if err := raw.SetLinger(0); err != nil {
			return err
		}
	default:
		s, err := raw.SyscallConn()
		if err != nil {
			return err
		}
		// A socket under repair ends without telling the other side; only root may.
		if err := s.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) }); err != nil {
			return err
		}
	}
	return raw.Close()
}

func abandon(ctx context.Context, s *siege, c net.Conn, number int) error {
	if _, err := io.WriteString(c, s.putHead(8<<20)+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 8<<20, s.zeros[:100_000])); err != nil {
		return err
	}
	return leave(ctx, c, number)
}

func abandonCalls(ctx context.Context, s *siege, c net.Conn, number int) error {
	h, err := newRawGRPC(c.(*tls.Conn), 65535, true)
	for n := 0; err == nil && n < 8; n++ {
		var id uint32
		if id, err = h.open("Put"); err == nil {
			err = h.data(id, message(wire.PutHead{Reservation: s.grant, Crate: store.NewCrateID(), Size: 8 << 20}), 1<<14, patience)
		}
		if err == nil && n%2 == 0 {
			err = h.data(id, append(announced(5+wire.DataSize, []byte{2, 0, 0, 0, 0}), s.zeros[:100_000]...), 1<<14, patience)
		}
	}
	if err != nil {
		return err
	}
	return leave(ctx, c, number)
}

// longFences are requests of the greatest length, of which the last byte never comes.
func longFences(ctx context.Context, s *siege, c net.Conn, _ int) error {
	_, err := fmt.Fprintf(c, "POST /v1/fence HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", 256<<10, s.zeros[:256<<10-1])
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

// longInvites are requests of strangers at the most they may have.
func longInvites(ctx context.Context, s *siege, c net.Conn, _ int) error {
	_, err := fmt.Fprintf(c, "POST /v1/redeem HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", 16<<10, s.zeros[:16<<10-1])
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}
