package container

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"stasis/store"
)

func subjectOf(path string) string { return "in container " + strconv.Quote(path) }

func (s *Store) subject() string { return subjectOf(s.path) }

func (s *Store) fail(kind store.Kind, op, detail string, err error) error {
	return &store.Error{Kind: kind, Op: op, Subject: s.subject(), Detail: detail, Err: err}
}

// crateError is an error about one crate.
func (s *Store) crateError(kind store.Kind, op string, id store.CrateID, detail string, err error) error {
	return &store.Error{Kind: kind, Op: op, Subject: id.String() + " " + s.subject(), Detail: detail, Err: err}
}

// ioError gives an error of the file its kind, unless it has one.
func (s *Store) ioError(op string, err error) error {
	if errors.As(err, new(*store.Error)) {
		return err
	}
	if isFull(err) {
		return &store.Error{
			Kind: store.NoSpace, Op: op, Subject: s.subject(), Err: err,
			Hint: "make room on the disk that the container lies on",
		}
	}
	return &store.Error{
		Kind: store.Unavailable, Op: op, Subject: s.subject(), Err: err,
		Hint: "look at the disk that the container lies on",
	}
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, errLogFull)
}
