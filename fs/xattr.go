package fs

import (
	"context"
	"strconv"
	"strings"
	"syscall"

	"stasis/fs/acl"
	"stasis/fs/names"
)

// The attributes that the vault answers itself. They are not listed, so that copying
// tools don't carry them.
const (
	ownPrefix   = "user.stasis."
	xattrCopies = ownPrefix + "copies"
	xattrWanted = ownPrefix + "wanted"
	xattrNodes  = ownPrefix + "nodes"
	xattrState  = ownPrefix + "state"
)

// GetXattr gives the value of an extended attribute. ENODATA.
func (s *FS) GetXattr(ctx context.Context, ino names.Ino, name string) ([]byte, error) {
	if strings.HasPrefix(name, ownPrefix) {
		return s.ownXattr(ctx, ino, name)
	}
	if err := supportedXattr(name); err != nil {
		return nil, err
	}
	if s.bare(ino) {
		return nil, syscall.ENODATA
	}
	return s.tree.GetXattr(ino, name)
}

// bare reports whether an inode is known to have no extended attributes.
func (s *FS) bare(ino names.Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[ino]
	return f != nil && f.bare.Load()
}

// keptXattrs are the namespaces of attributes that are kept as they are.
var keptXattrs = []string{"user.", "trusted.", "security."}

// isACL reports whether an attribute is an access control list, all that is kept of
// system.
func isACL(name string) bool { return name == acl.Access || name == acl.Default }

// supportedXattr refuses other names, as other filesystems do: EOPNOTSUPP, and EINVAL for
// a namespace with nothing behind it.
func supportedXattr(name string) error {
	if isACL(name) {
		return nil
	}
	for _, prefix := range keptXattrs {
		switch {
		case name == prefix:
			return syscall.EINVAL
		case strings.HasPrefix(name, prefix):
			return nil
		}
	}
	return syscall.EOPNOTSUPP
}

func (s *FS) ownXattr(ctx context.Context, ino names.Ino, name string) ([]byte, error) {
	in, err := s.tree.Get(ino)
	if err != nil {
		return nil, err
	}
	if !in.IsRegular() && !(in.IsDir() && name == xattrWanted) {
		return nil, syscall.ENODATA
	}
	switch name {
	case xattrWanted:
		p, err := s.effective(ino)
		return []byte(strconv.Itoa(p.Copies)), err
	case xattrCopies, xattrNodes, xattrState:
	default:
		return nil, syscall.ENODATA
	}
	safety, err := s.Safety(ctx, ino)
	if err != nil {
		return nil, err
	}
	switch name {
	case xattrCopies:
		return []byte(strconv.Itoa(safety.Copies)), nil
	case xattrNodes:
		return []byte(strings.Join(safety.Nodes, ",")), nil
	}
	return []byte(safety.State.String()), nil
}

// SetXattr sets an extended attribute; flags are those of setxattr(2). killSGID: who sets
// an access control list may not keep set-group-id.
func (s *FS) SetXattr(ino names.Ino, name string, value []byte, flags int, killSGID bool) error {
	if err := s.mayChangeXattr(name); err != nil {
		return err
	}
	s.mu.Lock()
	if f := s.files[ino]; f != nil {
		f.bare.Store(false)
	}
	s.mu.Unlock()
	if isACL(name) {
		_, err := s.tree.SetACL(ino, name, value, killSGID)
		return err
	}
	_, err := s.tree.SetXattr(ino, name, value, flags)
	return err
}

// RemoveXattr removes an extended attribute. ENODATA.
func (s *FS) RemoveXattr(ino names.Ino, name string) error {
	if err := s.mayChangeXattr(name); err != nil {
		return err
	}
	_, err := s.tree.RemoveXattr(ino, name)
	return err
}

func (s *FS) mayChangeXattr(name string) error {
	switch {
	case s.ro:
		return syscall.EROFS
	case strings.HasPrefix(name, ownPrefix):
		return syscall.EPERM
	}
	return supportedXattr(name)
}

// ListXattr gives the names of the extended attributes that were set.
func (s *FS) ListXattr(ino names.Ino) ([]string, error) { return s.tree.ListXattr(ino) }
