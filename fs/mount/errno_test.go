package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"stasis/store"
)

func TestErrno(t *testing.T) {
	node := &store.Error{Kind: store.Unavailable, Op: "read", Err: &store.Error{Kind: store.NotFound}}
	for _, c := range []struct {
		err    error
		no     syscall.Errno
		answer bool
	}{
		{syscall.ENOENT, syscall.ENOENT, true},
		{syscall.ENOTEMPTY, syscall.ENOTEMPTY, true},
		{syscall.EIO, syscall.EIO, true},
		{store.NotFound, syscall.EIO, false},
		{&store.Error{Kind: store.NotFound, Op: "read crate"}, syscall.EIO, false},
		{&store.Error{Kind: store.Unavailable, Op: "read crate"}, syscall.EIO, false},
		{&store.Error{Kind: store.NoSpace, Op: "reserve"}, syscall.ENOSPC, true},
		{&store.Error{Kind: store.Quota, Op: "reserve"}, syscall.EDQUOT, true},
		{&store.Error{Kind: store.Corrupt, Op: "read crate"}, syscall.EIO, false},
		{&store.Error{Kind: store.Denied, Op: "open"}, syscall.EACCES, false},
		{&store.Error{Kind: store.Conflict, Op: "put"}, syscall.EEXIST, false},
		{&store.Error{Kind: store.Invalid, Op: "put"}, syscall.EINVAL, false},
		{fmt.Errorf("close: %w", store.NoSpace), syscall.ENOSPC, true},
		// The outermost kind counts.
		{node, syscall.EIO, false},
		// A body that is gone is not a file that does not exist.
		{&os.PathError{Op: "open", Path: "bodies/7", Err: syscall.ENOENT}, syscall.EIO, false},
		{fmt.Errorf("read: %w", syscall.ENOENT), syscall.EIO, false},
		// A full disk below is a full disk above.
		{&os.PathError{Op: "write", Path: "bodies/7", Err: syscall.ENOSPC}, syscall.ENOSPC, false},
		{&store.Error{Kind: store.Unavailable, Op: "write body", Err: syscall.ENOSPC}, syscall.ENOSPC, false},
		{&os.PathError{Op: "write", Path: "bodies/7", Err: syscall.EFBIG}, syscall.EFBIG, true},
		// Too many open files here are too many in all to a program, which has few itself.
		{&os.PathError{Op: "open", Path: "bodies/7", Err: syscall.EMFILE}, syscall.ENFILE, false},
		{&os.PathError{Op: "open", Path: "bodies/7", Err: syscall.ENFILE}, syscall.ENFILE, false},
		{errors.Join(&store.Error{Kind: store.NoSpace}, syscall.EBADF), syscall.ENOSPC, true},
		{errors.Join(nil, syscall.ENOENT), syscall.ENOENT, true},
		{context.DeadlineExceeded, syscall.EIO, false},
		{errors.New("anything"), syscall.EIO, false},
	} {
		if no, answer := toErrno(c.err); no != c.no || answer != c.answer {
			t.Errorf("%v: got %v (answer %v), want %v (%v)", c.err, no, answer, c.no, c.answer)
		}
	}
}

// Each kind has its errno: one that is added to package store must be added here.
func TestErrnoOfEveryKind(t *testing.T) {
	for k := store.Kind(1); k.Error() != "unknown error kind"; k++ {
		if kindErrno[k] == 0 {
			t.Errorf("%v has no errno", k)
		}
	}
}
