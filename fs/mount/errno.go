package mount

import (
	"errors"
	"syscall"

	"stasis/store"
)

// kindErrno is what a program sees of what stores, router and ledger report.
//
// NotFound is EIO: that a name does not exist is said by package names with a bare
// errno, and content that no place has any more is not a file that does not exist.
var kindErrno = map[store.Kind]syscall.Errno{
	store.NotFound:    syscall.EIO,
	store.Unavailable: syscall.EIO,
	store.NoSpace:     syscall.ENOSPC,
	store.Quota:       syscall.EDQUOT,
	store.Corrupt:     syscall.EIO,
	store.Denied:      syscall.EACCES,
	store.Conflict:    syscall.EEXIST,
	store.Invalid:     syscall.EINVAL,
}

// passedOn are the errnos of this machine's own filesystems that mean the same to the
// program above. Any other, ENOENT above all, would speak of the wrong file.
var passedOn = map[syscall.Errno]bool{
	syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EFBIG: true, syscall.EROFS: true, syscall.ENOMEM: true,
	syscall.ENFILE: true,
}

// toErrno turns an error into what the program gets. answer says that it is an answer to
// the program; otherwise it is a failure, whose reason belongs into the log.
//
// A bare errno is an answer. An errno inside another error is how something below went
// wrong, but for EFBIG: that a file gets no larger is nobody's fault. Of several errors
// joined, the first counts.
func toErrno(err error) (no syscall.Errno, answer bool) {
	if no, ok := err.(syscall.Errno); ok {
		return no, true
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok && len(all.Unwrap()) > 0 {
		return toErrno(all.Unwrap()[0])
	}
	if no, ok := kindErrno[store.KindOf(err)]; ok {
		if cause := causeOf(err); no == syscall.EIO && passedOn[cause] {
			return cause, cause == syscall.EFBIG
		}
		return no, no == syscall.ENOSPC || no == syscall.EDQUOT
	}
	if cause := causeOf(err); passedOn[cause] {
		return cause, cause == syscall.EFBIG
	}
	return syscall.EIO, false
}

// causeOf gives the errno at the bottom of an error, or 0.
func causeOf(err error) syscall.Errno {
	var no syscall.Errno
	errors.As(err, &no)
	if no == syscall.EMFILE {
		return syscall.ENFILE // the files that this process has too many of are not the program's
	}
	return no
}
