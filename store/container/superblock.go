package container

import (
	"encoding/binary"
	"fmt"
	"time"

	"stasis/store"
)

// FormatVersion is the version of the file's format that this package writes.
const FormatVersion = 1

// The first pages of the file.
const (
	superPages = 2 // pages 0 and 1: the superblock, twice
	markPages  = 2 // pages 2 and 3: the marks, in turn
	firstPage  = superPages + markPages
)

// superKey keys the sums of superblocks, which must be readable before the
// container's own key is known.
var superKey = [32]byte([]byte("stasis container superblock key."))

// superblock is what pages 0 and 1 hold.
type superblock struct {
	version    uint16
	node       store.NodeID
	owner      store.OwnerID
	capacity   int64 // bytes, the log and all else included
	salt       [16]byte
	token      store.Token // of the mount that may change the container; zero: none yet
	created    time.Time
	generation uint64 // grows with each superblock written
	logHead    int64  // page at which the log starts
	logNonce   sum    // link of the log's first page
	logPages   int64  // how many pages of it are the checkpoint
}

const superPayload = 2 + 16 + 32 + 8 + 16 + 16 + 8 + 8 + 16 + 8

func (s *superblock) encode(raw []byte, self int64) {
	b := make([]byte, 0, superPayload)
	b = binary.BigEndian.AppendUint16(b, s.version)
	b = append(b, s.node[:]...)
	b = append(b, s.owner[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.capacity))
	b = append(b, s.salt[:]...)
	b = append(b, s.token[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.created.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(s.logHead))
	b = append(b, s.logNonce[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.logPages))
	newKeyer(superKey).encode(&page{kind: superPage, self: self, number: s.generation, payload: b}, raw)
}

// versionError is a superblock that is whole and of a format this package
// doesn't know.
type versionError uint16

func (v versionError) Error() string {
	return fmt.Sprintf("written in format %d, this program knows format %d", uint16(v), FormatVersion)
}

func decodeSuperblock(raw []byte, self int64) (superblock, error) {
	p, err := newKeyer(superKey).decode(raw, self)
	if err != nil || p.kind != superPage || len(p.payload) < 2 {
		return superblock{}, errPage
	}
	b := p.payload
	s := superblock{version: binary.BigEndian.Uint16(b), generation: p.number}
	if s.version != FormatVersion {
		return superblock{}, versionError(s.version)
	}
	if len(b) != superPayload {
		return superblock{}, errPage
	}
	b = b[2:]
	b = b[copy(s.node[:], b):]
	b = b[copy(s.owner[:], b):]
	s.capacity, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	b = b[copy(s.salt[:], b):]
	b = b[copy(s.token[:], b):]
	s.created, b = time.Unix(int64(binary.BigEndian.Uint64(b)), 0), b[8:]
	s.logHead, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	b = b[copy(s.logNonce[:], b):]
	s.logPages = int64(binary.BigEndian.Uint64(b))
	pages := s.capacity / PageSize
	if s.capacity < MinCapacity || s.capacity > MaxCapacity || s.logHead < firstPage || s.logHead >= pages ||
		s.logPages < 1 || s.logPages > pages {
		return superblock{}, errPage
	}
	return s, nil
}

// pageKey is the key of all pages but the superblocks.
func (s *superblock) pageKey() (key [32]byte) {
	copy(key[:16], s.node[:])
	copy(key[16:], s.salt[:])
	return key
}

// mark says that the log of the superblock with this nonce was synced up to and
// with the page of this index.
type mark struct {
	nonce sum
	index int64
	sum   sum // of that page
	// position is that of the crates which the log tells of up to there; zero: it was written by
	// a program that kept none.
	position store.Position

	raw []byte // as it was read
	at  int64  // the page it was read from
}

const markPayload = 16 + 8 + 16

func (m *mark) encode(k *keyer, raw []byte, self int64, generation uint64) {
	b := make([]byte, 0, markPayload)
	b = append(b, m.nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.index))
	b = append(b, m.sum[:]...)
	p := page{kind: markPage, self: self, number: generation, payload: b}
	binary.BigEndian.PutUint64(p.link[:], m.position.Count)
	binary.BigEndian.PutUint64(p.link[8:], m.position.Mark)
	k.encode(&p, raw)
}

func decodeMark(k *keyer, raw []byte, self int64) (mark, error) {
	p, err := k.decode(raw, self)
	if err != nil || p.kind != markPage || len(p.payload) != markPayload {
		return mark{}, errPage
	}
	var m mark
	b := p.payload[copy(m.nonce[:], p.payload):]
	m.index = int64(binary.BigEndian.Uint64(b))
	copy(m.sum[:], b[8:])
	m.position = store.Position{Count: binary.BigEndian.Uint64(p.link[:]), Mark: binary.BigEndian.Uint64(p.link[8:])}
	m.raw, m.at = raw[:PageSize:PageSize], self
	if m.index < 0 || m.index > MaxCapacity/PageSize {
		return mark{}, errPage
	}
	return m, nil
}
