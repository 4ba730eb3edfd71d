package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"stasis/store"
)

// isFull reports whether err says that there is no room on the disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskError turns an error of the filesystem into one with a kind.
func diskError(op, subject string, err error) error {
	var known *store.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &store.Error{Kind: store.Unavailable, Op: op, Subject: subject, Err: err}
	switch {
	case isFull(err):
		e.Kind = store.NoSpace
		e.Hint = "make room on the disk that holds the ledger"
	case errors.Is(err, fs.ErrPermission):
		e.Kind = store.Denied
	case errors.Is(err, syscall.EIO):
		e.Hint = "look at the disk that holds the ledger"
	}
	return e
}

// invalid refuses a request that breaks a rule of the interface.
func invalid(op, format string, args ...any) error {
	return &store.Error{Kind: store.Invalid, Op: op, Detail: fmt.Sprintf(format, args...)}
}

func (db *DB) closedError(op string) error {
	return &store.Error{Kind: store.Unavailable, Op: op, Subject: db.dir, Detail: "the ledger is closed"}
}
