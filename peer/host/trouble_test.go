package host

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// Where the peer's disk may only be read its person is told why, with the path, and an owner what
// kind of trouble it is, without; a put that goes well ends it.
func TestTroubleIsTold(t *testing.T) {
	p, f := withFaults(t, 64*mib, storetest.NewClock())
	_, c := p.owner(0)
	ctx, id := context.Background(), store.NewReservationID()
	if _, err := c.Reserve(ctx, store.ReserveRequest{ID: id, Bytes: mib}); err != nil {
		t.Fatal(err)
	}
	f.Fail(fault.Put, 0, &store.Error{Kind: store.Unavailable, Op: "put crate", Subject: "in /secret/path", Err: syscall.EROFS})
	crate := storetest.NewGen(1).Crate(500)
	put := func() error {
		_, err := c.Put(ctx, store.PutRequest{Reservation: id, Crate: crate.ID, Size: 500, Source: storetest.BytesSource(crate.Data)})
		return err
	}
	var told *store.Error
	if err := put(); !errors.As(err, &told) || told.Kind != store.Unavailable || !strings.Contains(told.Detail, "only be read") || strings.Contains(told.Detail, "secret") {
		t.Errorf("the owner is told %v", err)
	}
	if err := p.Trouble(); err == nil || !strings.Contains(err.Error(), "/secret/path") {
		t.Errorf("its person is told %v", err)
	}
	f.Heal()
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if err := p.Trouble(); err != nil {
		t.Errorf("it is over, and %v", err)
	}
}
