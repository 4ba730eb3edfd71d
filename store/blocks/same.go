package blocks

import (
	"context"
	"fmt"

	"stasis/store"
)

// Same tells whether a put asks for the crate that is there already: nil if so,
// Conflict if the id stands for other bytes. Without r.Expect it reads the source to
// know.
func Same(ctx context.Context, have store.CrateInfo, r store.PutRequest) error {
	conflict := func(detail string) error {
		return &store.Error{Kind: store.Conflict, Op: opPut, Subject: r.Crate.String(), Detail: detail}
	}
	if have.Size != r.Size {
		return conflict(fmt.Sprintf("a crate with this id is there and has %d bytes, not %d", have.Size, r.Size))
	}
	if have.Form != r.Form {
		return conflict("a crate with this id is there in another form")
	}
	root := r.Expect
	if root == nil {
		sums, err := Ingest(ctx, r, func([]byte) error { return nil })
		if err != nil {
			return err
		}
		d := sums.Root()
		root = &d
	}
	if *root != have.Root {
		return conflict("a crate with this id is there and has other bytes")
	}
	return nil
}
