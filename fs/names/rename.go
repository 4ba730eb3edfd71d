package names

import (
	"syscall"

	"stasis/store/ledger"
)

// Rename moves a name. If it replaced another inode, that is returned as it
// then is; without further names it is an orphan until Remove. Two names of one
// inode: nothing is done, as POSIX wants it.
//
// ENOENT, EEXIST (NoReplace), EISDIR or ENOTDIR where a directory would replace
// something else or the reverse, ENOTEMPTY, EINVAL where a directory would move
// into itself or both flags are set.
func (t *Tree) Rename(r Rename) (replaced *Inode, pos ledger.Position, err error) {
	if r.NoReplace && r.Exchange {
		return nil, 0, syscall.EINVAL
	}
	var cookie uint64
	if r.From != r.To && !r.Exchange {
		if cookie, err = t.cookies.take(); err != nil {
			return nil, 0, err
		}
	}
	moved := false // a directory, so that what lies in it inherits from elsewhere
	pos, err = t.update(func(o *op) error {
		m, err := o.renaming(r)
		if err != nil || m.same {
			return err
		}
		if r.With != nil {
			r.With(o.tx)
		}
		moved = m.in.IsDir() || r.Exchange && m.target.IsDir()
		if r.Exchange {
			m.exchange(r)
			return nil
		}
		replaced, err = m.move(r, cookie)
		return err
	})
	if r.From != r.To && moved {
		t.inherits.forget()
	}
	if err != nil {
		return nil, 0, err
	}
	return replaced, pos, nil
}

// move is a rename under way.
type move struct {
	o        *op
	from, to *Inode
	old      dentry
	in       *Inode
	new      dentry // of NewName, if there is one
	target   *Inode // that NewName leads to, or nil
	same     bool   // both names lead to one inode
}

// renaming loads what a rename is about and makes the checks, in the order in
// which Linux makes them.
func (o *op) renaming(r Rename) (m *move, err error) {
	m = &move{o: o}
	if m.from, err = o.loadDir(r.From); err != nil {
		return nil, err
	}
	old, ok, err := o.dentry(r.From, r.Name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, syscall.ENOENT
	}
	if m.to, err = o.loadDir(r.To); err != nil {
		return nil, err
	}
	new, exists, err := o.dentry(r.To, r.NewName)
	switch {
	case err != nil:
		return nil, err
	case exists && r.NoReplace:
		return nil, syscall.EEXIST
	case !exists && r.Exchange:
		return nil, syscall.ENOENT
	}
	if m.old, m.new = old, new; exists && old.ino == new.ino {
		m.same = true
		return m, nil
	}
	if m.in, err = o.named(old, r.Name); err != nil {
		return nil, err
	}
	if exists {
		if m.target, err = o.named(new, r.NewName); err != nil {
			return nil, err
		}
	}
	return m, m.check(r)
}

func (m *move) check(r Rename) error {
	if r.From != r.To {
		if m.in.IsDir() {
			if in, err := m.o.within(r.To, m.in.Ino); err != nil || in {
				return errOr(err, syscall.EINVAL)
			}
		}
		if m.target != nil && m.target.IsDir() {
			if in, err := m.o.within(r.From, m.target.Ino); err != nil || in {
				if r.Exchange {
					return errOr(err, syscall.EINVAL)
				}
				return errOr(err, syscall.ENOTEMPTY)
			}
		}
	}
	if m.target == nil || r.Exchange {
		return nil
	}
	switch {
	case m.in.IsDir() && !m.target.IsDir():
		return syscall.ENOTDIR
	case !m.in.IsDir() && m.target.IsDir():
		return syscall.EISDIR
	case m.target.IsDir():
		if empty, err := m.o.empty(m.target.Ino); err != nil || !empty {
			return errOr(err, syscall.ENOTEMPTY)
		}
	}
	return nil
}

// errOr is err, or what to say if there is none.
func errOr(err error, otherwise syscall.Errno) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (m *move) exchange(r Rename) {
	if m.in.IsDir() != m.target.IsDir() && m.from != m.to {
		gains, loses := m.to, m.from
		if m.target.IsDir() {
			gains, loses = m.from, m.to
		}
		gains.Nlink++
		loses.Nlink--
	}
	m.o.enter(m.to, r.NewName, m.in, m.new.cookie)
	m.o.enter(m.from, r.Name, m.target, m.old.cookie)
	m.in.Ctime, m.target.Ctime = m.o.now, m.o.now
}

// move gives the name its new place: that of the name it replaces, its old one
// within the same directory, else that of the new cookie.
func (m *move) move(r Rename, cookie uint64) (replaced *Inode, err error) {
	m.o.leave(m.from, r.Name, m.old.cookie)
	if m.in.IsDir() {
		m.from.Nlink--
		m.to.Nlink++
	}
	switch {
	case m.target != nil:
		cookie = m.new.cookie
		if m.target.IsDir() {
			m.to.Nlink--
		}
		m.o.unlinked(m.target)
		if r.Inherit && m.target.Nlink == 0 && m.target.IsRegular() && m.in.IsRegular() && m.in.List == 0 {
			m.in.List, m.in.Size = m.target.List, m.target.Size
			m.target.List, m.target.Size = 0, 0
		}
		gone := *m.target
		replaced = &gone
	case r.From == r.To:
		cookie = m.old.cookie
	}
	m.o.enter(m.to, r.NewName, m.in, cookie)
	m.in.Ctime = m.o.now
	return replaced, nil
}
