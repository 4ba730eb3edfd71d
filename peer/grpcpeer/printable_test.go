package grpcpeer

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

const nasty = "\x1b[2J\x1b]0;owned\a\u009b31m\u202Egpj\u200B\nmore"

// lying is a server that answers every call with one thing, and a client of it.
func lying(t *testing.T, answer func(s grpc.ServerStream) error) *Client {
	t.Helper()
	serverTLS, clientTLS, _ := wiretest.TLS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS)), grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			var f frame
			if err := s.RecvMsg(&f); err != nil {
				return err
			}
			return answer(s)
		}))
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(s.Stop)
	c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// What a peer says of a failure is shown to the person, whichever of the places it says it in
// that gRPC has.
func TestErrorsArePrintable(t *testing.T) {
	text, err := json.Marshal(wire.Error{Kind: "unavailable", Op: nasty, Subject: nasty, Detail: nasty, Hint: nasty})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]func(s grpc.ServerStream) error{
		"a status":          func(grpc.ServerStream) error { return status.Error(codes.Internal, nasty) },
		"an unknown status": func(grpc.ServerStream) error { return status.Error(codes.Unknown, nasty) },
		"a long status":     func(grpc.ServerStream) error { return status.Error(codes.Internal, strings.Repeat(nasty, 100)) },
		"like the link's":   func(grpc.ServerStream) error { return status.Error(codes.Unavailable, "connection error "+nasty) },
		"a trailer": func(s grpc.ServerStream) error {
			s.SetTrailer(metadata.Pairs(errorTrailer, string(text)))
			return status.Error(codes.Internal, nasty)
		},
		"a broken trailer": func(s grpc.ServerStream) error {
			s.SetTrailer(metadata.Pairs(errorTrailer, nasty))
			return status.Error(codes.Internal, nasty)
		},
		"a broken head": func(s grpc.ServerStream) error { return s.SendMsg(&frame{kind: kindHead, head: []byte(nasty)}) },
		"a number": func(s grpc.ServerStream) error {
			return s.SendMsg(&frame{kind: kindHead, head: []byte(`{"free":1` + strings.Repeat("0", 1<<20) + `}`)})
		},
	} {
		c := lying(t, answer)
		_, err := c.Status(t.Context())
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if s := err.Error(); s != store.Printable(s, 4*maxErrorText+200) {
			t.Errorf("%s: %.200q", name, s)
		}
	}
	c := lying(t, func(s grpc.ServerStream) error {
		f, err := headFrame(kindHead, wire.Event{Kind: nasty})
		if err != nil {
			return err
		}
		return s.SendMsg(f)
	})
	err = c.Events(t.Context(), wire.Cursor{}, func(e wire.Event) error {
		if e.Kind != store.Printable(e.Kind, wire.MaxEventKind) {
			t.Errorf("an event of kind %q", e.Kind)
		}
		return nil
	})
	if err == nil {
		t.Error("the events ended without a reason")
	}
}
