package grpcpeer

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

// A peer that says without end that it lives, or sends data without bytes, does not keep a
// processor of the vault's busy.
func TestFloodOfSignsOfLife(t *testing.T) {
	event, err := headFrame(kindHead, wire.Event{Kind: wire.EventAlive})
	if err != nil {
		t.Fatal(err)
	}
	there, err := headFrame(kindHead, wire.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	listen := func(c *Client) error {
		return c.Events(t.Context(), wire.Cursor{}, func(wire.Event) error { return nil })
	}
	read := func(c *Client) error {
		r, err := c.Open(t.Context(), store.CrateID{1}, 0, 100)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.Read(make([]byte, 100))
		return err
	}
	for _, c := range []struct {
		what  string
		first *frame
		flood frame
		call  func(*Client) error
	}{
		{"alive frames before an event", nil, frame{kind: kindAlive}, listen},
		{"events that say so", nil, *event, listen},
		{"alive frames amid data", there, frame{kind: kindAlive}, read},
		{"data frames without bytes", there, frame{kind: kindData}, read},
	} {
		serverTLS, clientTLS, _ := wiretest.TLS(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS)), grpc.ForceServerCodecV2(codec{}),
			grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error {
				var asked frame
				if err := st.RecvMsg(&asked); err != nil {
					return err
				}
				if c.first != nil {
					if err := st.SendMsg(c.first); err != nil {
						return err
					}
				}
				for {
					f := c.flood
					if err := st.SendMsg(&f); err != nil {
						return err // it was hung up on
					}
				}
			}))
		var served sync.WaitGroup
		served.Go(func() {
			if err := s.Serve(l); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		client, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan error, 1)
		go func() { heard <- c.call(client) }()
		select {
		case err := <-heard:
			if !errors.Is(err, store.Invalid) {
				t.Errorf("%s: %v", c.what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s are listened to without end", c.what)
		}
		client.Close()
		s.Stop()
		served.Wait()
	}
}
