package wire

import (
	"fmt"
	"time"

	"stasis/store"
)

// invalid refuses a message that is not as FORMAT.md has it.
func invalid(what, format string, args ...any) error {
	return &store.Error{Kind: store.Invalid, Op: "read " + what, Detail: store.Printable(fmt.Sprintf(format, args...), MaxErrorText)}
}

// FromReserve is a reservation's request as it travels. The holder is whoever holds the
// session.
func FromReserve(r store.ReserveRequest) Reserve {
	lease := r.Lease.Milliseconds()
	if r.Lease%time.Millisecond != 0 { // rounded away from nothing, which means the default
		lease += int64(r.Lease / max(r.Lease, -r.Lease))
	}
	return Reserve{ID: r.ID, Bytes: r.Bytes, LeaseMS: lease, Copies: r.Copies, Zones: r.Zones,
		Exclude: r.Exclude, Path: r.Path, Hops: r.Hops}
}

// Request is the reservation that was asked for, by the owner of the session.
func (r *Reserve) Request(holder store.OwnerID) (store.ReserveRequest, error) {
	if r.Bytes < 0 || r.LeaseMS < 0 || r.LeaseMS > int64(365*24*time.Hour/time.Millisecond) || r.Copies < 0 || r.Zones < 0 || r.Hops < 0 ||
		r.Copies > MaxShares || r.Zones > MaxShares || len(r.Exclude) > MaxIDs || len(r.Path) > MaxIDs {
		return store.ReserveRequest{}, invalid("a reservation", "a number is out of bounds")
	}
	return store.ReserveRequest{ID: r.ID, Holder: holder, Bytes: r.Bytes, Lease: time.Duration(r.LeaseMS) * time.Millisecond,
		Copies: r.Copies, Zones: r.Zones, Exclude: r.Exclude, Path: r.Path, Hops: r.Hops}, nil
}

// FromShares is store shares as they travel.
func FromShares(in []store.Share) Shares {
	out := Shares{Shares: make([]Share, len(in))}
	for i, s := range in {
		out.Shares[i] = Share(s)
	}
	return out
}

// Store gives the shares that travelled.
func (s *Shares) Store() ([]store.Share, error) {
	if len(s.Shares) > MaxShares {
		return nil, invalid("shares", "%d of them", len(s.Shares))
	}
	out := make([]store.Share, len(s.Shares))
	for i, share := range s.Shares {
		if share.Bytes < 0 || share.Drawn < 0 || len(share.Zone) > MaxText {
			return nil, invalid("shares", "a number is out of bounds")
		}
		out[i] = store.Share(share)
		out[i].Zone = store.Printable(share.Zone, MaxText)
	}
	return out, nil
}

// FromPut is the head of a put.
func FromPut(r store.PutRequest) PutHead {
	return PutHead{Reservation: r.Reservation, Crate: r.Crate, Form: uint8(r.Form), Size: r.Size, Expect: r.Expect}
}

// CheckPut tests a put before it is sent.
func CheckPut(r store.PutRequest) error {
	if r.Source == nil {
		return invalid("the head of a crate", "it has no source")
	}
	head := FromPut(r)
	_, err := head.Request()
	return err
}

// Request is the put that was asked for, but for its source.
func (p *PutHead) Request() (store.PutRequest, error) {
	if p.Size <= 0 || p.Size > store.MaxCrate || p.Form > uint8(store.Sealed) || p.Crate.IsZero() {
		return store.PutRequest{}, invalid("the head of a crate", "size %d, form %d", p.Size, p.Form)
	}
	return store.PutRequest{Reservation: p.Reservation, Crate: p.Crate, Form: store.Form(p.Form), Size: p.Size, Expect: p.Expect}, nil
}

// Check tests a batch against the limits and gives the bytes of its content.
func (b *Batch) Check() (bytes int64, err error) {
	if len(b.Crates) == 0 || len(b.Crates) > MaxBatchCrates {
		return 0, invalid("a batch", "%d crates", len(b.Crates))
	}
	for i := range b.Crates {
		if _, err := b.Crates[i].Request(); err != nil {
			return 0, err
		}
		if b.Crates[i].Size > MaxBatchCrate {
			return 0, invalid("a batch", "a crate of %d bytes", b.Crates[i].Size)
		}
		bytes += b.Crates[i].Size
	}
	if bytes > MaxBatchBytes {
		return 0, invalid("a batch", "%d bytes", bytes)
	}
	return bytes, nil
}

// FromReceipts is receipts as they travel.
func FromReceipts(in []store.Receipt) []Receipt {
	out := make([]Receipt, len(in))
	for i, r := range in {
		blocks := make([]byte, 0, len(r.Sums.Blocks)*store.DigestSize)
		for _, d := range r.Sums.Blocks {
			blocks = append(blocks, d[:]...)
		}
		out[i] = Receipt{Leaf: r.Leaf, Sums: Sums{Size: r.Sums.Size, Blocks: blocks}, Time: r.Time,
			Position: Position(r.Position), Address: r.Address, Fingerprint: r.Fingerprint}
	}
	return out
}

// StoreReceipts gives the receipts that travelled.
func StoreReceipts(in []Receipt) ([]store.Receipt, error) {
	if len(in) == 0 || len(in) > MaxReceipts {
		return nil, invalid("receipts", "%d of them", len(in))
	}
	out := make([]store.Receipt, len(in))
	for i, r := range in {
		sums := store.Checksums{Size: r.Sums.Size}
		if r.Sums.Size < 0 || r.Sums.Size > store.MaxCrate<<1 || int64(len(r.Sums.Blocks)) != store.Blocks(r.Sums.Size)*store.DigestSize || len(r.Address) > MaxText || len(r.Fingerprint) > MaxText {
			return nil, invalid("a receipt", "a field has a wrong length")
		}
		sums.Blocks = make([]store.Digest, 0, len(r.Sums.Blocks)/store.DigestSize)
		for b := r.Sums.Blocks; len(b) > 0; b = b[store.DigestSize:] {
			sums.Blocks = append(sums.Blocks, store.Digest(b[:store.DigestSize]))
		}
		if !sums.Valid() {
			return nil, invalid("a receipt", "%d checksums for %d bytes", len(sums.Blocks), sums.Size)
		}
		out[i] = store.Receipt{Leaf: r.Leaf, Sums: sums, Time: r.Time,
			Position: store.Position(r.Position), Address: store.Printable(r.Address, MaxText), Fingerprint: store.Printable(r.Fingerprint, MaxText)}
	}
	return out, nil
}

// Agree makes sure that receipts are for the bytes that were sent, as far as the sender has said
// which those are: what a crate is the peer has no say in. store.ErrWrongReceipt if one is not.
func Agree(r store.PutRequest, receipts []store.Receipt) error {
	for i := range receipts {
		if receipts[i].Sums.Size == r.Size && (r.Expect == nil || receipts[i].Sums.Root() == *r.Expect) {
			continue
		}
		return &store.Error{Kind: store.Invalid, Op: "push crate", Subject: r.Crate.String(), Detail: "leaf " + receipts[i].Leaf.String(), Err: store.ErrWrongReceipt}
	}
	return nil
}

// FromResults is the outcome of a batch as it travels.
func FromResults(in []store.PutResult) BatchResults {
	out := BatchResults{Results: make([]BatchResult, len(in))}
	for i, r := range in {
		if out.Results[i].Error = FromError(r.Err); r.Err == nil {
			out.Results[i].Receipts = FromReceipts(r.Receipts)
		}
	}
	return out
}

// Store gives the outcome of a batch of n crates.
func (b *BatchResults) Store(n int) ([]store.PutResult, error) {
	if len(b.Results) != n {
		return nil, invalid("the results of a batch", "%d for %d crates", len(b.Results), n)
	}
	out := make([]store.PutResult, n)
	for i, r := range b.Results {
		if out[i].Err = r.Error.Err(); out[i].Err == nil {
			out[i].Receipts, out[i].Err = StoreReceipts(r.Receipts)
		}
	}
	return out, nil
}

// Check tests a range against the limits.
func (r *Range) Check() error {
	if r.Offset < 0 || r.Offset > store.MaxCrate || r.Length > store.MaxCrate {
		return invalid("a range", "offset %d, length %d", r.Offset, r.Length)
	}
	return nil
}

// FromInfo is what is known of a crate, as it travels.
func FromInfo(i store.CrateInfo) Info {
	return Info{ID: i.ID, Form: uint8(i.Form), Size: i.Size, Root: i.Root}
}

// Store gives what travelled of a crate.
func (i *Info) Store() (store.CrateInfo, error) {
	if i.Size <= 0 || i.Size > store.MaxCrate<<1 || i.Form > uint8(store.Sealed) {
		return store.CrateInfo{}, invalid("what is known of a crate", "size %d, form %d", i.Size, i.Form)
	}
	return store.CrateInfo{ID: i.ID, Form: store.Form(i.Form), Size: i.Size, Root: i.Root}, nil
}

// FromPage is a page as it travels.
func FromPage(p store.Page) Page {
	out := Page{Crates: make([]Info, len(p.Crates)), Next: p.Next}
	for i, c := range p.Crates {
		out.Crates[i] = FromInfo(c)
	}
	return out
}

// Store gives the page that travelled.
func (p *Page) Store() (out store.Page, err error) {
	if len(p.Crates) > store.MaxPage || len(p.Next) > MaxCursor {
		return out, invalid("a page", "%d crates", len(p.Crates))
	}
	out.Crates = make([]store.CrateInfo, len(p.Crates))
	for i := range p.Crates {
		if out.Crates[i], err = p.Crates[i].Store(); err != nil {
			return store.Page{}, err
		}
	}
	if len(p.Next) > 0 {
		out.Next = p.Next
	}
	return out, nil
}

// FromStatus is a status as it travels. The device stays behind: it means nothing
// elsewhere.
func FromStatus(s store.Status) Status {
	return Status{Leaf: s.Leaf, Durable: s.Durable, Capacity: s.Capacity, Used: s.Used, Reserved: s.Reserved, Free: s.Free,
		Crates: s.Crates, Damage: s.Damage, Leaves: s.Leaves, Position: Position(s.Position), Version: Version}
}

// Store gives the status that travelled.
func (s *Status) Store() (store.Status, error) {
	if s.Leaf.IsZero() || s.Capacity < 0 || s.Used < 0 || s.Reserved < 0 || s.Crates < 0 {
		return store.Status{}, invalid("a status", "a number is out of bounds")
	}
	return store.Status{Leaf: s.Leaf, Durable: s.Durable, Capacity: s.Capacity, Used: s.Used, Reserved: s.Reserved, Free: max(0, s.Free),
		Crates: s.Crates, Damage: s.Damage, Leaves: s.Leaves, Position: store.Position(s.Position)}, nil
}

// CheckEvent gives an event that travelled. A kind that is not known stays what it is, as
// far as it can be shown.
func CheckEvent(e Event) (Event, error) {
	if e.Incarnation != store.Printable(e.Incarnation, MaxCursor) {
		return Event{}, invalid("an event", "the incarnation %.40q", e.Incarnation)
	}
	e.Kind = store.Printable(e.Kind, MaxEventKind)
	return e, nil
}
