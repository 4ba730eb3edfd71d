package grpcpeer

import (
	"context"

	"google.golang.org/grpc"

	"stasis/peer/wire"
	"stasis/store"
)

// serviceName is in the path of every call; the number is wire.Version.
const serviceName = "stasis.v1.Peer"

func method(name string) string { return "/" + serviceName + "/" + name }

// description is the service as gRPC knows it.
func description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			unary("Reserve", reserve), unary("Renew", renew), unary("Release", release), unary("Verify", verify), unary("Stat", stat),
			unary("Discard", discard), unary("List", list), unary("Status", report), unary("Fence", fence),
			streaming("Redeem", redeem, false),
			inSession("Put", (*Server).put, true), inSession("Batch", (*Server).batch, true),
			inSession("Open", (*Server).read, false), inSession("Events", (*Server).events, false),
		},
	}
}

// unary is a call of one message each way within a session. To gRPC it is a stream as the
// others: it would read the message of any caller, for as long as he takes to send it, before
// it asked who that is.
func unary[In, Out any](name string, do func(context.Context, wire.Session, *In) (Out, error)) grpc.StreamDesc {
	return inSession(name, func(s *Server, st grpc.ServerStream, session wire.Session) error {
		in := new(In)
		if err := s.first(st, in); err != nil {
			return err
		}
		out, err := do(st.Context(), session, in)
		if err != nil {
			return err
		}
		return s.sendHead(st, out)
	}, false)
}

// inSession is a call of a known owner.
func inSession(name string, do func(*Server, grpc.ServerStream, wire.Session) error, both bool) grpc.StreamDesc {
	return streaming(name, func(s *Server, st grpc.ServerStream) error {
		session, _, err := s.session(st.Context())
		if err != nil {
			return err
		}
		return do(s, st, session)
	}, both)
}

// streaming is a call. A fault in one must not take the others down.
func streaming(name string, do func(*Server, grpc.ServerStream) error, both bool) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: both, Handler: func(srv any, st grpc.ServerStream) (err error) {
		defer func() { err = outgoing(err, st.SetTrailer) }() // the status says the kind too
		defer recovered(&err)
		return do(srv.(*Server), st)
	}}
}

func reserve(ctx context.Context, session wire.Session, in *wire.Reserve) (wire.Shares, error) {
	// Who holds it the session knows.
	r, err := in.Request(store.OwnerID{})
	if err != nil {
		return wire.Shares{}, err
	}
	shares, err := session.Reserve(ctx, r)
	return wire.FromShares(shares), err
}

func renew(ctx context.Context, session wire.Session, in *wire.Reservation) (wire.Renewed, error) {
	at, err := session.Renew(ctx, in.ID)
	return wire.Renewed{Expires: at}, err
}

func release(ctx context.Context, session wire.Session, in *wire.Reservation) (wire.Empty, error) {
	return wire.Empty{}, session.Release(ctx, in.ID)
}

func verify(ctx context.Context, session wire.Session, in *wire.Range) (wire.Proof, error) {
	if err := in.Check(); err != nil {
		return wire.Proof{}, err
	}
	if in.Nonce == nil {
		return wire.Proof{}, malformed("a verification without a nonce")
	}
	d, err := session.Verify(ctx, in.Crate, in.Offset, in.Length, *in.Nonce)
	return wire.Proof{Digest: d}, err
}

func stat(ctx context.Context, session wire.Session, in *wire.Crate) (wire.Info, error) {
	i, err := session.Stat(ctx, in.ID)
	return wire.FromInfo(i), err
}

func discard(ctx context.Context, session wire.Session, in *wire.Discard) (wire.Empty, error) {
	return wire.Empty{}, session.Discard(ctx, store.DiscardRequest{Crate: in.Crate, Signature: in.Signature})
}

func list(ctx context.Context, session wire.Session, in *wire.List) (wire.Page, error) {
	if len(in.Cursor) > wire.MaxCursor {
		return wire.Page{}, malformed("a cursor of %d bytes", len(in.Cursor))
	}
	var cursor []byte
	if len(in.Cursor) > 0 {
		cursor = in.Cursor
	}
	p, err := session.List(ctx, cursor)
	return wire.FromPage(p), err
}

func report(ctx context.Context, session wire.Session, _ *wire.Empty) (wire.Status, error) {
	st, err := session.Status(ctx)
	return wire.FromStatus(st), err
}

func fence(ctx context.Context, session wire.Session, in *wire.Fence) (wire.Empty, error) {
	if len(in.Known) > wire.MaxTokens {
		return wire.Empty{}, malformed("%d tokens", len(in.Known))
	}
	return wire.Empty{}, session.Fence(ctx, in.Known, in.Next, in.TakeOver)
}

// redeem is the one call that a stranger may make.
func redeem(s *Server, st grpc.ServerStream) error {
	who, err := callerOf(st.Context())
	if err != nil {
		return err
	}
	var in wire.Redeem
	if err := s.first(st, &in); err != nil {
		return err
	}
	out, err := s.o.Service.Redeem(st.Context(), in, who.fingerprint)
	if err != nil {
		return err
	}
	return s.sendHead(st, out)
}
