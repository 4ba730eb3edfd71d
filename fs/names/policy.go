package names

import (
	"slices"
	"strings"
	"syscall"

	"stasis/store/ledger"
)

// Policy gives the policy set on an inode itself; ok is false if there is none.
// What its bytes mean is package fs's.
func (t *Tree) Policy(ino Ino) (policy []byte, ok bool, err error) {
	v, ok, err := t.space.Get(policyKey(ino))
	if !ok || err != nil {
		return nil, false, err
	}
	policy, err = decodeBytes("policy", ino, v)
	return policy, err == nil, err
}

// SetPolicy sets the policy of an inode; nil takes it away, so that the inode
// inherits again.
func (t *Tree) SetPolicy(ino Ino, policy []byte, with func(tx *ledger.Tx)) (ledger.Position, error) {
	if len(policy) > MaxPolicy {
		return 0, syscall.E2BIG
	}
	defer t.inherits.forget()
	return t.update(func(o *op) error {
		if _, err := o.load(ino); err != nil {
			return err
		}
		if with != nil {
			with(o.tx)
		}
		if policy == nil {
			o.tx.Delete(policyKey(ino))
		} else {
			o.tx.Put(policyKey(ino), encodeBytes(policy))
		}
		return nil
	})
}

// EffectivePolicy gives the policy in force for an inode: its own or that of its
// nearest ancestor, with the inode it is set on; from is 0 if none is set up to the
// root. A file with several names takes that of the directory of the name given
// last, and from the root if that directory was removed.
func (t *Tree) EffectivePolicy(ino Ino) (policy []byte, from Ino, err error) {
	for range MaxDepth {
		if from, err = t.policySource(ino); err != nil || from == 0 {
			return nil, 0, err
		}
		p, ok, err := t.Policy(from)
		if ok || err != nil {
			return p, from, err
		}
		// It was taken away just now, and is forgotten when that call returns.
		t.inherits.forget()
	}
	return nil, 0, corrupt("policy", uint64(ino), "it comes and goes")
}

// policySource gives the inode on which the policy in force for another is set; 0: none is.
func (t *Tree) policySource(ino Ino) (from Ino, err error) {
	age := t.inherits.now()
	var passed []Ino // directories on the way, that inherit the same
	found := func(from Ino) (Ino, error) {
		if len(passed) > 0 {
			t.inherits.learn(age, passed, from)
		}
		return from, nil
	}
	for range MaxDepth {
		if from, ok := t.inherits.of(ino); ok {
			return found(from)
		}
		_, ok, err := t.space.Get(policyKey(ino))
		if err != nil {
			return 0, err
		}
		if ok {
			return found(ino)
		}
		if ino == Root {
			return found(0)
		}
		in, err := t.Get(ino)
		if err == syscall.ENOENT {
			ino, passed = Root, nil
			continue
		}
		if err != nil {
			return 0, err
		}
		if in.IsDir() && len(passed) < inheritanceMost {
			passed = append(passed, ino)
		}
		ino = in.Parent
	}
	return 0, corrupt("directory", uint64(ino), "its parents lead in a circle")
}

// Path gives a path of an inode from the root, "/" for the root itself. ENOENT
// if it has none, or if the name given to it last was taken away while others
// remain.
func (t *Tree) Path(ino Ino) (string, error) {
	var parts []string
	for range MaxDepth {
		if ino == Root {
			slices.Reverse(parts)
			return "/" + strings.Join(parts, "/"), nil
		}
		in, err := t.Get(ino)
		if err != nil {
			return "", err
		}
		key := cookieKey(in.Parent, in.cookie)
		v, ok, err := t.space.Get(key)
		if err != nil {
			return "", err
		}
		if !ok || in.Nlink == 0 {
			return "", syscall.ENOENT
		}
		e, err := decodeEntry(in.Parent, key, v)
		if err != nil {
			return "", err
		}
		if e.Ino != ino {
			return "", syscall.ENOENT
		}
		parts = append(parts, e.Name)
		ino = in.Parent
	}
	return "", corrupt("directory", uint64(ino), "its parents lead in a circle")
}
