package grpcpeer

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

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
		Methods: []grpc.MethodDesc{
			unary("Reserve", reserve), unary("Renew", renew), unary("Release", release), unary("Verify", verify), unary("Stat", stat),
			unary("Discard", discard), unary("List", list), unary("Status", report), unary("Fence", fence),
			{MethodName: "Redeem", Handler: redeem},
		},
		Streams: []grpc.StreamDesc{
			streaming("Put", (*Server).put, true), streaming("Batch", (*Server).batch, true),
			streaming("Open", (*Server).read, false), streaming("Events", (*Server).events, false),
		},
	}
}

// unary is a call of one message each way within a session.
func unary[In, Out any](name string, do func(context.Context, *Server, wire.Session, *In) (Out, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		s := srv.(*Server)
		out, err := answer(ctx, decode, func(in *In) (Out, error) {
			var none Out
			session, err := s.session(ctx)
			if err != nil {
				return none, err
			}
			return do(ctx, s, session, in)
		})
		if err != nil {
			return nil, outgoing(err, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) }) // the status says the kind too
		}
		return out, nil
	}}
}

// answer reads the one message of a call and makes a frame of the result. A fault in one
// call must not take the others down.
func answer[In, Out any](ctx context.Context, decode func(any) error, do func(*In) (Out, error)) (out *frame, err error) {
	defer recovered(&err)
	var f frame
	if err := decode(&f); err != nil {
		return nil, err
	}
	defer f.free()
	in := new(In)
	if err := f.read(kindHead, in); err != nil {
		return nil, err
	}
	result, err := do(in)
	if err != nil {
		return nil, err
	}
	return headFrame(kindHead, result)
}

func streaming(name string, do func(*Server, grpc.ServerStream, wire.Session) error, both bool) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: both, Handler: func(srv any, st grpc.ServerStream) (err error) {
		s := srv.(*Server)
		defer func() { err = outgoing(err, st.SetTrailer) }()
		defer recovered(&err)
		session, err := s.session(st.Context())
		if err != nil {
			return err
		}
		return do(s, st, session)
	}}
}

func reserve(ctx context.Context, s *Server, session wire.Session, in *wire.Reserve) (wire.Shares, error) {
	// Who holds it the session knows.
	r, err := in.Request(store.OwnerID{})
	if err != nil {
		return wire.Shares{}, err
	}
	shares, err := session.Reserve(ctx, r)
	return wire.FromShares(shares), err
}

func renew(ctx context.Context, s *Server, session wire.Session, in *wire.Reservation) (wire.Renewed, error) {
	at, err := session.Renew(ctx, in.ID)
	return wire.Renewed{Expires: at}, err
}

func release(ctx context.Context, s *Server, session wire.Session, in *wire.Reservation) (wire.Empty, error) {
	return wire.Empty{}, session.Release(ctx, in.ID)
}

func verify(ctx context.Context, s *Server, session wire.Session, in *wire.Range) (wire.Proof, error) {
	if err := in.Check(); err != nil {
		return wire.Proof{}, err
	}
	if in.Nonce == nil {
		return wire.Proof{}, malformed("a verification without a nonce")
	}
	d, err := session.Verify(ctx, in.Crate, in.Offset, in.Length, *in.Nonce)
	return wire.Proof{Digest: d}, err
}

func stat(ctx context.Context, s *Server, session wire.Session, in *wire.Crate) (wire.Info, error) {
	i, err := session.Stat(ctx, in.ID)
	return wire.FromInfo(i), err
}

func discard(ctx context.Context, s *Server, session wire.Session, in *wire.Discard) (wire.Empty, error) {
	return wire.Empty{}, session.Discard(ctx, store.DiscardRequest{Crate: in.Crate, Signature: in.Signature})
}

func list(ctx context.Context, s *Server, session wire.Session, in *wire.List) (wire.Page, error) {
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

func report(ctx context.Context, s *Server, session wire.Session, _ *wire.Empty) (wire.Status, error) {
	st, err := session.Status(ctx)
	return wire.FromStatus(st), err
}

func fence(ctx context.Context, s *Server, session wire.Session, in *wire.Fence) (wire.Empty, error) {
	if len(in.Known) > wire.MaxTokens {
		return wire.Empty{}, malformed("%d tokens", len(in.Known))
	}
	return wire.Empty{}, session.Fence(ctx, in.Known, in.Next, in.TakeOver)
}

// redeem is the one call that a stranger may make.
func redeem(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s := srv.(*Server)
	out, err := answer(ctx, decode, func(in *wire.Redeem) (wire.Redeemed, error) {
		fingerprint, err := s.fingerprint(ctx)
		if err != nil {
			return wire.Redeemed{}, err
		}
		return s.o.Service.Redeem(ctx, *in, fingerprint)
	})
	if err != nil {
		return nil, outgoing(err, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
	}
	return out, nil
}
