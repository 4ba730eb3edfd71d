package grpcpeer

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"stasis/peer/wire"
	"stasis/store"
)

// errorTrailer is the trailer in which a wire.Error travels, as JSON.
const errorTrailer = "stasis-error-bin"

// statusCodes let tools that know gRPC alone see roughly what happened.
var statusCodes = map[store.Kind]codes.Code{
	store.NotFound: codes.NotFound, store.Unavailable: codes.Unavailable, store.NoSpace: codes.ResourceExhausted,
	store.Quota: codes.ResourceExhausted, store.Corrupt: codes.DataLoss, store.Denied: codes.PermissionDenied,
	store.Conflict: codes.AlreadyExists, store.Invalid: codes.InvalidArgument,
}

// outgoing makes an error ready to travel: the trailer, and what gRPC itself says.
func outgoing(err error, setTrailer func(metadata.MD)) error {
	if err == nil {
		return nil
	}
	e := wire.FromError(err)
	for _, s := range []*string{&e.Op, &e.Subject, &e.Detail, &e.Hint} {
		*s = store.Printable(*s, maxErrorText)
	}
	text, jsonErr := json.Marshal(e)
	if jsonErr == nil {
		setTrailer(metadata.Pairs(errorTrailer, string(text)))
	}
	code, ok := statusCodes[store.KindOf(err)]
	if !ok {
		code = codes.Unavailable
	}
	return status.Error(code, e.Kind)
}

// incoming is the error that travelled, or one that says what became of the link.
func (c *Client) incoming(op string, err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	if v := trailer.Get(errorTrailer); len(v) == 1 {
		var e wire.Error
		if wire.Decode([]byte(v[0]), &e) == nil {
			return e.Err()
		}
	}
	var known *store.Error
	if errors.As(err, &known) {
		return err
	}
	s, _ := status.FromError(err)
	if e := c.unconnected(op, s); e != nil {
		return e
	}
	detail := err.Error()
	switch {
	case errors.Is(err, io.EOF):
		detail = "it ended the call"
	case errors.Is(err, context.DeadlineExceeded), s.Code() == codes.DeadlineExceeded:
		detail = "no answer in time"
	case errors.Is(err, context.Canceled), s.Code() == codes.Canceled:
		detail = "the call was given up"
	case s.Code() != codes.Unknown:
		detail = s.Message()
	}
	kind := store.Unavailable
	if status.Code(err) == codes.Unimplemented {
		kind, detail = store.Invalid, "it does not know this request; it is of another release"
	}
	return &store.Error{Kind: kind, Op: op, Subject: "at " + c.o.Address, Detail: store.Printable(detail, maxErrorText)}
}
