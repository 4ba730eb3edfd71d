package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"stasis/store"
)

const (
	// FormatVersion is the newest version of the journal and of the bbolt file that this
	// package writes; see FORMAT.md.
	FormatVersion = formatSpans
	// formatFirst has updates of one space and at most SmallUpdateKeys keys, formatSpans all.
	formatFirst = 1
	formatSpans = 2

	segmentMagic  = "STASISJL"
	headerSize    = 60
	headerCopy    = 4096 // the header is there twice, a page apart
	segmentStart  = 8192 // where the records begin
	segmentPrefix = "journal-"
	spareName     = "spare.tmp"
)

// lineage names one history of positions: it is minted when a ledger is created
// and again when it is restored, so that journals are never replayed over a state
// that they do not continue.
type lineage [16]byte

// segmentHeader begins a segment.
type segmentHeader struct {
	version uint32
	lineage lineage
	number  uint64
	salt    uint64
	size    int64 // bytes preallocated
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], h.version)
	copy(b[16:], h.lineage[:])
	binary.LittleEndian.PutUint64(b[32:], h.number)
	binary.LittleEndian.PutUint64(b[40:], h.salt)
	binary.LittleEndian.PutUint64(b[48:], uint64(h.size))
	binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], castagnoli))
	return b
}

func parseSegmentHeader(b []byte) (h segmentHeader, ok bool) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(segmentMagic)) ||
		binary.LittleEndian.Uint32(b[56:]) != crc32.Checksum(b[:56], castagnoli) {
		return segmentHeader{}, false
	}
	h.version = binary.LittleEndian.Uint32(b[8:])
	copy(h.lineage[:], b[16:])
	h.number = binary.LittleEndian.Uint64(b[32:])
	h.salt = binary.LittleEndian.Uint64(b[40:])
	h.size = int64(binary.LittleEndian.Uint64(b[48:]))
	return h, true
}

// segment is one file of the journal.
type segment struct {
	header segmentHeader
	name   string
	f      file     // nil once it is closed
	seal   seal     // of header.salt
	end    int64    // where the next record goes
	from   Position // the first update that belongs into it, if one came
	last   Position // the last update in it, or before it if it has none
	// durable: everything in it was synced after the last write to it.
	durable bool
	// doubted: a sync of it failed, or another process wrote it: only folding its
	// updates into bbolt makes them durable.
	doubted bool
	// failed: a write or sync of it failed; it is not used again.
	failed bool
	// unreadable: its header is damaged.
	unreadable bool
}

func segmentName(number uint64) string { return fmt.Sprintf("%s%016x", segmentPrefix, number) }

// segmentNumber reads a number from a name as segmentName makes it.
func segmentNumber(name string) (uint64, bool) {
	var n uint64
	if _, err := fmt.Sscanf(name, segmentPrefix+"%x", &n); err != nil || segmentName(n) != name {
		return 0, false
	}
	return n, true
}

// openSegment opens a segment and reads its header. A damaged header is not an
// error: the segment is then marked unreadable.
func openSegment(fs files, name string) (*segment, error) {
	number, ok := segmentNumber(name)
	if !ok {
		return nil, fmt.Errorf("%q is not the name of a journal segment", name)
	}
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	s := &segment{name: name, f: f, end: segmentStart, header: segmentHeader{number: number}}
	for _, at := range []int64{0, headerCopy} {
		b := make([]byte, headerSize)
		if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, f.Close())
		}
		if h, ok := parseSegmentHeader(b); ok && h.number == number {
			if h.version > FormatVersion {
				return nil, errors.Join(newerError("journal "+name, h.version), f.Close())
			}
			s.header, s.seal = h, newSeal(h.salt)
			return s, nil
		}
	}
	s.unreadable = true
	return s, nil
}

// scan reads the segment and gives its valid records.
func (s *segment) scan(each func(offset int, r record) error) (end, damaged int, err error) {
	size, err := s.f.Size()
	if err != nil {
		return 0, 0, err
	}
	// A file that grew by itself is damaged; its header says how far records can be.
	b := make([]byte, min(size, s.header.size))
	if n, err := s.f.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return 0, 0, err
	}
	if len(b) < segmentStart {
		return segmentStart, segmentStart, nil
	}
	return s.seal.scanRecords(b, segmentStart, each)
}

// errFound ends a scan early.
var errFound = errors.New("found")

// first gives the position of the first update that belongs into the segment;
// ok is false if no record of it can be read.
func (s *segment) first() (p Position, ok bool, err error) {
	b := make([]byte, recordHeader)
	if _, err := s.f.ReadAt(b, segmentStart); err != nil && !errors.Is(err, io.EOF) {
		return 0, false, err
	}
	if r, _, valid := s.seal.parseRecord(b); valid && r.kind == kindStart {
		return r.position + 1, true, nil
	}
	_, _, err = s.scan(func(_ int, r record) error {
		p, ok = r.position, true
		if r.kind != kindUpdate {
			p++
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return p, ok, err
}

// close gives up the file.
func (s *segment) close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}

func newerError(subject string, version uint32) error {
	return &store.Error{
		Kind: store.Invalid, Op: "open ledger", Subject: subject,
		Detail: fmt.Sprintf("a newer version of stasis wrote it: its format is %d, this version knows up to %d", version, FormatVersion),
		Hint:   "install the newer version again",
	}
}
