package directory

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zeebo/blake3"

	"stasis/store"
)

// MarkerName is the file in a root that says which leaf lies there.
const MarkerName = "stasis.node"

// FormatVersion is the version of the layout that this code reads and writes.
const FormatVersion = 1

const (
	markerTitle = "stasis directory node"
	opOpen      = "open directory node"
)

// Marker is what a root says of itself.
type Marker struct {
	Version int
	ID      store.NodeID
	Owner   store.OwnerID
}

func (m Marker) encode() []byte {
	body := fmt.Sprintf("%s\nversion %d\nid %s\nowner %s\n", markerTitle, m.Version, m.ID, m.Owner)
	return []byte(body + "check " + markerCheck(body) + "\n")
}

func markerCheck(body string) string {
	sum := blake3.Sum256([]byte(body))
	return hex.EncodeToString(sum[:16])
}

func parseMarker(text []byte) (Marker, error) {
	bad := func(k store.Kind, detail, hint string) (Marker, error) {
		return Marker{}, &store.Error{Kind: k, Op: "read the marker", Subject: MarkerName, Detail: detail, Hint: hint}
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 || lines[0] != markerTitle {
		return bad(store.Corrupt, "it is not the marker of a directory node", "restore it from a copy, or choose another directory")
	}
	var m Marker
	if n, err := fmt.Sscanf(lines[1], "version %d", &m.Version); n != 1 || err != nil {
		return bad(store.Corrupt, "it has no version", "restore it from a copy")
	}
	if m.Version > FormatVersion {
		return bad(store.Invalid, fmt.Sprintf("version %d, this program knows up to %d", m.Version, FormatVersion), "use a newer stasis")
	}
	damaged := func() (Marker, error) { return bad(store.Corrupt, "it is damaged", "restore it from a copy") }
	if len(lines) != 6 {
		return damaged()
	}
	id, err := store.ParseNodeID(strings.TrimPrefix(lines[2], "id "))
	if err != nil {
		return damaged()
	}
	owner, err := hex.DecodeString(strings.TrimPrefix(lines[3], "owner "))
	if err != nil || len(owner) != len(m.Owner) {
		return damaged()
	}
	m.ID, m.Owner = id, store.OwnerID(owner)
	// One text for one marker: whatever else differs is damage too.
	if string(m.encode()) != string(text) {
		return damaged()
	}
	return m, nil
}

// Inspect tells which leaf lies at path without opening it: NotFound if there is
// none, Corrupt if its marker is damaged.
func Inspect(path string) (Marker, error) {
	f, err := os.Open(filepath.Join(path, MarkerName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return Marker{}, &store.Error{
			Kind: store.NotFound, Op: "look for a directory node", Subject: path, Detail: "there is no " + MarkerName,
		}
	}
	if err != nil {
		return Marker{}, diskError("look for a directory node", path, err)
	}
	defer f.Close()
	return readMarker(f, path)
}

func readMarker(f *os.File, path string) (Marker, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, markerSize))
	if err != nil {
		return Marker{}, diskError("read the marker", path, err)
	}
	m, err := parseMarker(text)
	var e *store.Error
	if errors.As(err, &e) {
		e.Subject = filepath.Join(path, MarkerName)
	}
	return m, err
}

// takeMarker opens the marker of a root and locks it for this process.
func takeMarker(path string) (*os.File, Marker, error) {
	name := filepath.Join(path, MarkerName)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, Marker{}, missing(opOpen, path)
	}
	if err != nil {
		return nil, Marker{}, diskError(opOpen, path, err)
	}
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close() // nothing was written to it
		return nil, Marker{}, &store.Error{
			Kind: store.Conflict, Op: opOpen, Subject: path, Detail: "it is in use already",
			Hint: "a store can be open once only: look for another mount or node that uses it",
		}
	}
	// A share without locks is kept from a second process by the index's lock, if at all.
	if err != nil && !unsupported(err) && !errors.Is(err, unix.ENOLCK) {
		_ = f.Close()
		return nil, Marker{}, diskError(opOpen, path, os.NewSyscallError("flock", err))
	}
	m, err := readMarker(f, path)
	if err != nil {
		_ = f.Close()
		return nil, Marker{}, err
	}
	return f, m, nil
}

// missing is the answer where the marker is not.
func missing(op, path string) error {
	return &store.Error{
		Kind: store.Unavailable, Op: op, Subject: path, Detail: "missing: there is no " + MarkerName,
		Hint: "if this is a removable or remote disk, mount it",
	}
}
