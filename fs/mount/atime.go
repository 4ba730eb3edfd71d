package mount

import (
	"stasis/fs"
	"stasis/fs/names"
)

// accessed sets the access time of an inode that is read, as relatime has it. The kernel
// asks for the time again after each read that it did not answer itself.
func (r *raw) accessed(ino names.Ino) bool { return r.atime && r.fsys.Accessed(ino) }

// unseen sets the access time of a file that is closed, was open for reading, and of which
// no read came here. The kernel has answered from what it holds, or was not asked: a program
// that opens a file only to read it is taken to have done so.
func (r *raw) unseen(h *fs.Handle) {
	if h.Unread() && !h.Quiet() && r.accessed(h.Ino()) {
		r.forgetAttr(h.Ino())
	}
}
