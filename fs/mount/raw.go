package mount

import (
	"context"
	"fmt"
	"runtime/debug"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/sirupsen/logrus"

	"stasis/fs"
	"stasis/fs/names"
)

// raw answers the kernel's requests. What it does not have is ENOSYS, which the
// kernel asks for once: it then opens directories unasked, whose entries it keeps until it
// changes them.
type raw struct {
	fuse.RawFileSystem
	reporter

	fsys *fs.FS
	open *handles
	// atime: reading sets access times.
	atime bool
	// checked: the kernel checks permissions, access control lists included.
	checked bool
	server  *fuse.Server
	// ctx ends with the session. Interrupts are not looked at; see doc.go.
	ctx context.Context
}

func newRaw(ctx context.Context, fsys *fs.FS, log logrus.FieldLogger) *raw {
	return &raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), reporter: reporter{log: log}, fsys: fsys, open: newHandles(), ctx: ctx}
}

// Init comes before the first request.
func (r *raw) Init(server *fuse.Server) { r.server = server }

// forgetAttr has the kernel ask again for the attributes of an inode. It is not told that
// there is nothing to forget.
func (r *raw) forgetAttr(ino names.Ino) { _ = r.server.InodeNotify(uint64(ino), -1, 0) }

// String is what the mount's type ends in.
func (r *raw) String() string { return subtype }

// panicked is what an operation that panicked returns.
func (r *raw) panicked(what any) fuse.Status {
	r.log.WithField("stack", string(debug.Stack())).WithError(fmt.Errorf("%v", what)).Error("an operation panicked")
	return fuse.EIO
}

// entry answers an operation that gave an inode, whose reference package fs counted.
func (r *raw) entry(op string, parent names.Ino, a fs.Attr, err error, out *fuse.EntryOut) fuse.Status {
	if err == nil {
		fillEntry(out, a)
	}
	return r.status(op, parent, err)
}

// Forget takes references back. The root's is not counted.
func (r *raw) Forget(node, n uint64) {
	if ino := names.Ino(node); ino != names.Root {
		r.fsys.Forget(ino, n)
	}
}

// StatFs says how much room there is.
func (r *raw) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := r.fsys.Statfs(r.ctx)
	if err == nil {
		*out = statfsOf(s)
	}
	return r.status("statfs", names.Ino(in.NodeId), err)
}

// Ioctl has no commands.
func (r *raw) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
