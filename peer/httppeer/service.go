package httppeer

import (
	"net/http"

	"github.com/sirupsen/logrus"

	"stasis/peer/wire"
	"stasis/store"
)

// The paths of the resources; the number is wire.Version.
const (
	pathReservations = "/v1/reservations/"
	pathCrates       = "/v1/crates"
	pathUploads      = "/v1/uploads/"
	pathBatch        = "/v1/batch"
	pathStatus       = "/v1/status"
	pathFence        = "/v1/fence"
	pathEvents       = "/v1/events"
	pathRedeem       = "/v1/redeem"
	pathAlive        = "/v1/alive"
)

// routes are the resources of a session.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(*exchange) error{
		"PUT " + pathReservations + "{id}":        reserve,
		"POST " + pathReservations + "{id}/renew": renew,
		"DELETE " + pathReservations + "{id}":     release,
		"PUT " + pathCrates + "/{id}":             put,
		"GET " + pathCrates + "/{id}":             read, // HEAD too
		"DELETE " + pathCrates + "/{id}":          discard,
		"POST " + pathCrates + "/{id}/verify":     verify,
		"GET " + pathCrates:                       list,
		"GET " + pathUploads + "{id}":             standing, // HEAD too
		"DELETE " + pathUploads + "{id}":          giveUp,
		"POST " + pathBatch:                       batch,
		"GET " + pathStatus:                       report,
		"POST " + pathFence:                       fence,
		"GET " + pathEvents:                       events,
		"GET " + pathAlive:                        (*exchange).done,
		"/":                                       unknown,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			x := r.Context().Value(exchangeKey{}).(*exchange)
			x.r = r // this one knows the path's parts
			x.finish(do(x))
		})
	}
	return mux
}

func unknown(x *exchange) error {
	x.failWith(wire.FromError(malformed("no such resource: %s %.200q", x.r.Method, x.r.URL.Path)), http.StatusNotFound)
	return nil
}

func (x *exchange) reservation() (id store.ReservationID, err error) {
	return id, id.UnmarshalText([]byte(x.r.PathValue("id")))
}

func reserve(x *exchange) error {
	id, err := x.reservation()
	if err != nil {
		return err
	}
	in := wire.Reserve{ID: id}
	if err := x.message(&in, maxMessage); err != nil {
		return err
	}
	if in.ID != id {
		return malformed("the reservation is %s in the path and %s in the body", id, in.ID)
	}
	// Who holds it the session knows.
	r, err := in.Request(store.OwnerID{})
	if err != nil {
		return err
	}
	shares, err := x.session.Reserve(x.r.Context(), r)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, wire.FromShares(shares))
}

func renew(x *exchange) error {
	id, err := x.reservation()
	if err != nil {
		return err
	}
	at, err := x.session.Renew(x.r.Context(), id)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, wire.Renewed{Expires: at})
}

func release(x *exchange) error {
	id, err := x.reservation()
	if err != nil {
		return err
	}
	if err := x.session.Release(x.r.Context(), id); err != nil {
		return err
	}
	return x.done()
}

func verify(x *exchange) error {
	id, err := x.crate()
	if err != nil {
		return err
	}
	in := wire.Range{Crate: id}
	if err := x.message(&in, maxMessage); err != nil {
		return err
	}
	if err := in.Check(); err != nil {
		return err
	}
	if in.Crate != id || in.Nonce == nil {
		return malformed("a verification of another crate, or without a nonce")
	}
	d, err := x.session.Verify(x.r.Context(), id, in.Offset, in.Length, *in.Nonce)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, wire.Proof{Digest: d})
}

func discard(x *exchange) error {
	id, err := x.crate()
	if err != nil {
		return err
	}
	signature, err := parseBase64(headerSignature, x.r.Header.Get(headerSignature), wire.MaxText)
	if err != nil {
		return err
	}
	if err := x.session.Discard(x.r.Context(), store.DiscardRequest{Crate: id, Signature: signature}); err != nil {
		return err
	}
	return x.done()
}

func list(x *exchange) error {
	cursor, err := parseBase64("a cursor", x.r.URL.Query().Get("cursor"), wire.MaxCursor)
	if err != nil {
		return err
	}
	p, err := x.session.List(x.r.Context(), cursor)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, wire.FromPage(p))
}

func report(x *exchange) error {
	st, err := x.session.Status(x.r.Context())
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, wire.FromStatus(st))
}

func fence(x *exchange) error {
	var in wire.Fence
	if err := x.message(&in, maxMessage); err != nil {
		return err
	}
	if len(in.Known) > wire.MaxTokens {
		return malformed("%d tokens", len(in.Known))
	}
	if err := x.session.Fence(x.r.Context(), in.Known, in.Next, in.TakeOver); err != nil {
		return err
	}
	return x.done()
}

// redeem is the one request that a stranger may make.
func redeem(x *exchange) error {
	var in wire.Redeem
	if err := x.message(&in, maxStranger); err != nil {
		return err
	}
	out, err := x.s.o.Service.Redeem(x.r.Context(), in, x.fingerprint)
	if err != nil {
		x.s.refusals.Warn("an invite was refused", logrus.Fields{"from": x.r.RemoteAddr, "fingerprint": x.fingerprint, logrus.ErrorKey: err})
		return err
	}
	return x.answer(http.StatusOK, out)
}
