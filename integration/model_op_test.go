package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// modelOp is one thing a program does to a filesystem. Paths count from the root of the
// side that it is done to; fields that the kind has no use for are zero.
type modelOp struct {
	Kind    string
	Path    rawText  `json:",omitempty"`
	To      rawText  `json:",omitempty"` // a second path, a link's target, an attribute's name
	Value   rawText  `json:",omitempty"` // of an attribute, where it isn't made from Seed
	Slot    int      `json:",omitempty"` // of the open files
	Slot2   int      `json:",omitempty"` // of them, or of the mappings
	Flags   int      `json:",omitempty"`
	Mode    uint32   `json:",omitempty"`
	Rdev    uint64   `json:",omitempty"`
	UID     int      `json:",omitempty"`
	GID     int      `json:",omitempty"`
	Offset  int64    `json:",omitempty"`
	Offset2 int64    `json:",omitempty"`
	Size    int64    `json:",omitempty"`
	Seed    uint64   `json:",omitempty"` // of the bytes written
	Atime   [2]int64 `json:",omitzero"`
	Mtime   [2]int64 `json:",omitzero"`  // seconds and nanoseconds
	Watch   bool     `json:",omitempty"` // compare what it does to times, too
}

// rawText is a string of any bytes, which JSON could not carry as it is.
type rawText string

func (r rawText) MarshalText() ([]byte, error) {
	quoted := strconv.Quote(string(r))
	return []byte(quoted[1 : len(quoted)-1]), nil
}

func (r *rawText) UnmarshalText(text []byte) error {
	s, err := strconv.Unquote(`"` + string(text) + `"`)
	*r = rawText(s)
	return err
}

func (op modelOp) String() string {
	text, err := json.Marshal(op)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// outcome is what a program sees of an operation.
type outcome struct {
	err  error
	n    int
	data []byte
	text string
}

func (o outcome) String() string {
	return fmt.Sprintf("error %v, n %d, %d bytes, %q", o.err, o.n, len(o.data), o.text)
}

// same says where two outcomes differ, or nothing.
func (o outcome) same(other outcome) string {
	if o.err == other.err && o.n == other.n && slices.Equal(o.data, other.data) && o.text == other.text {
		return ""
	}
	said := fmt.Sprintf("want %v\n got %v", o, other)
	for i := range min(len(o.data), len(other.data)) {
		if o.data[i] != other.data[i] {
			return fmt.Sprintf("%s\nthe first byte that differs is at %d", said, i)
		}
	}
	return said
}

// side is one of the two directories that are compared, with the files open in it.
type side struct {
	root   string
	files  map[int]int      // descriptor by slot
	maps   map[int]*mapping // mapping by slot
	births map[uint64]unix.StatxTimestamp
	lose   string // the kind of operation that is claimed and not done, to test the test
}

func newSide(root, lose string) *side {
	return &side{root: root, files: map[int]int{}, maps: map[int]*mapping{}, births: map[uint64]unix.StatxTimestamp{}, lose: lose}
}

func (s *side) path(p rawText) string {
	// Not cleaned, neither what asks for a directory nor what goes back over one.
	return s.root + "/" + string(p)
}

func (s *side) closeAll() {
	for slot, m := range s.maps {
		_ = m.close()
		delete(s.maps, slot)
	}
	for slot, fd := range s.files {
		_ = unix.Close(fd) // of a mount that was killed it fails
		delete(s.files, slot)
	}
}

// longAgo is the time in seconds below which a time was set by a test, not by a clock.
const longAgo = 1_500_000_000

func modelTime(t unix.Timespec) string {
	if t.Sec < longAgo {
		return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
	}
	return "recent"
}

// modified is when something was last written; of writes to a FIFO FUSE tells nobody.
func modified(st *unix.Stat_t) string {
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		return "whenever"
	}
	return modelTime(st.Mtim)
}

// attributes are what must be equal of two inodes. The size of a directory is its
// filesystem's business.
func attributes(st *unix.Stat_t) string {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("mode %o size %d links %d owner %d:%d device %x modified %s", st.Mode, size, st.Nlink, st.Uid, st.Gid, st.Rdev, modified(st))
}

func statted(err error, st *unix.Stat_t) outcome {
	if err != nil {
		return outcome{err: err}
	}
	return outcome{text: attributes(st)}
}

// do does an operation.
func (s *side) do(op modelOp) outcome {
	if op.Kind == s.lose {
		return outcome{n: int(op.Size)}
	}
	if op.Watch {
		op.Watch = false
		return s.watch(op)
	}
	if do, ok := pathOps[op.Kind]; ok {
		return do(s, op)
	}
	if do, ok := mapOps[op.Kind]; ok {
		m, mapped := s.maps[op.Slot2]
		if !mapped {
			return outcome{text: "not mapped"}
		}
		return do(s, m, op)
	}
	do, ok := fileOps[op.Kind]
	if !ok {
		return outcome{text: "no such operation: " + op.Kind}
	}
	fd, open := s.files[op.Slot]
	if !open {
		return outcome{text: "not open"}
	}
	if isSocket(fd) && op.Kind != "close" && op.Kind != "dup" {
		return outcome{text: "a socket, which lies in neither filesystem"}
	}
	return do(s, fd, op)
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

func failing(err error) outcome { return outcome{err: err} }

// pathOps are the operations on paths, fileOps those on open files.
var (
	pathOps = merged(nameOps, contentOps, specialOps, holeOps, aclOps)
	fileOps = merged(openOps, lockOps)
)

func merged[V any](all ...map[string]V) map[string]V {
	into := map[string]V{}
	for _, m := range all {
		maps.Copy(into, m)
	}
	return into
}
