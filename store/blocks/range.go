package blocks

import (
	"fmt"

	"stasis/store"
)

// Range gives the length that is meant, or Invalid if the range does not lie in
// a crate of size bytes. A negative length means to the end; an empty range is
// allowed anywhere up to and including the end.
func Range(op string, crate store.CrateID, size, offset, length int64) (int64, error) {
	if length < 0 && offset >= 0 && offset <= size {
		return size - offset, nil
	}
	if offset < 0 || length < 0 || offset > size || length > size-offset {
		return 0, &store.Error{
			Kind: store.Invalid, Op: op, Subject: crate.String(),
			Detail: fmt.Sprintf("range %d+%d is outside its %d bytes", offset, length, size),
		}
	}
	return length, nil
}

// CheckPut tells whether a request to put makes sense by itself.
func CheckPut(r store.PutRequest) error {
	bad := ""
	switch {
	case r.Crate.IsZero():
		bad = "no crate id"
	case r.Size < 1 || r.Size > store.MaxCrate:
		bad = fmt.Sprintf("%d bytes; a crate has 1 to %d", r.Size, int64(store.MaxCrate))
	case r.Form != store.Plain && r.Form != store.Sealed:
		bad = fmt.Sprintf("unknown form %d", r.Form)
	default:
		return nil
	}
	return &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: bad}
}

const opPut = "put crate"
