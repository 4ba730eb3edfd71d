package directory

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/zeebo/blake3"

	"stasis/store"
	"stasis/store/ledger"
)

// PositionName is the file in a root that says what the store's position is.
const PositionName = "stasis.position"

const positionTitle = "stasis position"

// standing is the position in the index. It changes in the update that changes the crates,
// so that there is one position to each state of them.
type standing struct {
	position store.Position
	// token is that of the mount which changed it last. Where it is not the one that the index
	// holds, a program that knows of no positions has changed the crates since.
	token store.Token
}

func (p standing) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, p.position.Count)
	b = binary.BigEndian.AppendUint64(b, p.position.Mark)
	return append(b, p.token[:]...)
}

func parseStanding(b []byte) (p standing, err error) {
	if len(b) != 17+len(p.token) || b[0] != recordVersion {
		return p, damagedRecord("its position")
	}
	p.position = store.Position{Count: binary.BigEndian.Uint64(b[1:]), Mark: binary.BigEndian.Uint64(b[9:])}
	copy(p.token[:], b[17:])
	return p, nil
}

// after is a position that follows p and that no other history has.
func after(p store.Position) store.Position {
	return store.Position{Count: p.Count + 1, Mark: rand.Uint64()}
}

// change is an update of what crates there are, or of who may change them: the position
// moves on with it.
func (x *index) change(fn func(tx *ledger.Tx) error) (ledger.Position, error) {
	var next store.Position
	p, err := x.update(func(tx *ledger.Tx) (err error) {
		if err = fn(tx); err == nil {
			next, err = advance(tx)
		}
		return err
	})
	if err == nil {
		x.come(next)
	}
	return p, err
}

// advance moves the position on, within an update. An index that is being made has none.
func advance(tx *ledger.Tx) (store.Position, error) {
	b, ok, err := tx.Get([]byte{keyPosition})
	if err != nil || !ok {
		return store.Position{}, err
	}
	p, err := parseStanding(b)
	if err != nil {
		return store.Position{}, err
	}
	return p.position, p.write(tx, after(p.position))
}

// write records a position, within an update.
func (p *standing) write(tx *ledger.Tx, at store.Position) error {
	token, _, err := tx.Get([]byte{keyFence})
	if err != nil {
		return err
	}
	p.position, p.token = at, store.Token{}
	copy(p.token[:], token)
	tx.Put([]byte{keyPosition}, p.encode())
	return nil
}

// come notes what position the index has come to.
func (x *index) come(p store.Position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.Count > x.position.Count {
		x.position = p
	}
}

// at is the position that the index has come to.
func (x *index) at() store.Position {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.position
}

// settlePosition reads the position, and makes one that is unlike any before where there
// is none, or the crates were changed without it. told is what the file in the root says.
func (x *index) settlePosition(told store.Position) error {
	var p standing
	_, err := x.update(func(tx *ledger.Tx) error {
		p = standing{}
		b, ok, err := tx.Get([]byte{keyPosition})
		if err != nil {
			return err
		}
		if ok {
			p, err = parseStanding(b)
			ok = err == nil // what is damaged is made anew, unlike any before
		}
		token, _, err := tx.Get([]byte{keyFence})
		if err != nil || ok && string(token) == string(p.token[:min(len(token), len(p.token))]) {
			return err
		}
		return p.write(tx, after(store.Position{Count: max(p.position.Count, told.Count)}))
	})
	if err == nil {
		x.come(p.position)
	}
	return err
}

// sign is the file in the root that says what the position is. It is written after the
// index, before anything is acknowledged, and never synced: the index has the position, and an
// opening makes the file say it. What is found in it while the store is open, and is not what
// the store wrote, says that the root's content was replaced.
type sign struct {
	path string
	tree *tree

	mu        sync.Mutex
	file      *os.File       // nil where inodes have no lasting numbers: it is opened each time
	dev, ino  uint64         // of file
	told      store.Position // what it says; zero: it could not be made
	attempted store.Position // what it says instead, perhaps, after an error
}

func encodeSign(p store.Position) []byte {
	body := fmt.Sprintf("%s\nversion %d\ncount %020d\nmark %016x\n", positionTitle, FormatVersion, p.Count, p.Mark)
	sum := blake3.Sum256([]byte(body))
	return []byte(body + "check " + hex.EncodeToString(sum[:16]) + "\n")
}

// signSize is how long such a file is, in bytes: always the same, so that one write
// replaces it.
var signSize = len(encodeSign(store.Position{}))

// parseSign gives the zero Position for what is not such a file.
func parseSign(text []byte) (p store.Position) {
	var version int
	format := positionTitle + "\nversion %d\ncount %d\nmark %x\n"
	if _, err := fmt.Sscanf(string(text), format, &version, &p.Count, &p.Mark); err != nil || string(encodeSign(p)) != string(text) {
		return store.Position{}
	}
	return p
}

// look tells what the file at path says; zero where it is not there or damaged.
func (g *sign) look() (store.Position, error) {
	f, err := os.Open(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return store.Position{}, nil
	}
	if err != nil {
		return store.Position{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, int64(signSize)+1))
	return parseSign(text), err
}

// make makes the file say p, at an opening: a new one, renamed over what is there, unless
// that says so already. The caller has the lock, or nobody else has the sign.
func (g *sign) make(p store.Position) error {
	said, err := g.look()
	if err == nil && said != p {
		err = g.tree.writeSign(p)
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return errors.Join(&os.PathError{Op: "stat", Path: g.path, Err: err}, f.Close())
	}
	g.told = p
	if !knownKind(g.tree.root) {
		return f.Close()
	}
	g.file, g.dev, g.ino = f, st.Dev, st.Ino
	return nil
}

func (t *tree) writeSign(p store.Position) error {
	f, err := openAt(t.temp, PositionName, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(encodeSign(p))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return renameAt(t.temp, PositionName, t.root, PositionName)
}

// errReplaced says that the file is not the one that this store keeps.
var errReplaced = errors.New("the position in it is not the one that this store wrote there")

// there makes sure that the path leads to the file that is open: one stat. Where none is kept
// open it is for use to find out.
func (g *sign) there() error {
	if g.file == nil {
		return nil
	}
	var st unix.Stat_t
	switch err := retry(func() error { return unix.Stat(g.path, &st) }); {
	case err == unix.ENOENT || err == nil && (st.Dev != g.dev || st.Ino != g.ino):
		return errReplaced
	case err != nil:
		return &os.PathError{Op: "stat", Path: g.path, Err: err}
	}
	return nil
}

// use gives fn the file that lies at the path now, as whoever looks from outside would find
// it, if it is what this store wrote. The caller has the lock.
func (g *sign) use(fn func(f *os.File) error) error {
	if err := g.there(); err != nil {
		return err
	}
	if g.file != nil {
		return g.used(g.file, fn)
	}
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errReplaced
	}
	if err != nil {
		return err
	}
	return errors.Join(g.used(f, fn), f.Close())
}

func (g *sign) used(f *os.File, fn func(f *os.File) error) error {
	text := make([]byte, signSize+1)
	n, err := f.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return err
	}
	switch said := parseSign(text[:n]); {
	case said == store.Position{}:
		return errReplaced
	case said == g.told:
	case said == g.attempted:
		g.told = said
	default:
		return errReplaced
	}
	return fn(f)
}

// check gives what the file says now.
func (g *sign) check() (store.Position, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.told == (store.Position{}) {
		return g.told, nil
	}
	err := g.use(func(*os.File) error { return nil })
	return g.told, err
}

// tell makes the file say p, unless it says that or a later one.
func (g *sign) tell(p store.Position) (store.Position, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.told.Count >= p.Count {
		return g.told, nil
	}
	if err := g.tree.probe.before("write position"); err != nil {
		return store.Position{}, err
	}
	if g.told == (store.Position{}) { // the disk was full at the opening
		err := g.make(p)
		return g.told, err
	}
	err := g.use(func(f *os.File) error {
		g.attempted = p
		_, err := f.WriteAt(encodeSign(p), 0)
		return err
	})
	if err == nil {
		g.told = p
	}
	return g.told, err
}

func (g *sign) close() {
	if g != nil && g.file != nil {
		_ = g.file.Close() // nothing waits to be written
	}
}

// openSign settles what the position is, in the index and in the file. A full disk is no
// reason not to open: the file is then made by the first change that finds room.
func (s *Store) openSign() error {
	s.sign = &sign{path: filepath.Join(s.path, PositionName), tree: s.tree}
	told, err := s.sign.look()
	if err != nil {
		return err
	}
	if err := s.index.settlePosition(told); err != nil {
		return err
	}
	if err := s.sign.make(s.index.at()); err != nil && !isFull(err) {
		return err
	}
	return nil
}

// publish makes the position known that the index has come to, before something is
// acknowledged: each state of the store that has this position, or a later one, has it.
func (s *Store) publish() (store.Position, error) {
	p, err := s.sign.tell(s.index.at())
	return p, s.replacedBy(err)
}

// same makes sure that what lies in the root is what this store keeps there, and gives its
// position.
func (s *Store) same() (store.Position, error) {
	p, err := s.sign.check()
	return p, s.replacedBy(err)
}

// rooted is the part of same that costs next to nothing.
func (s *Store) rooted() error {
	s.sign.mu.Lock()
	defer s.sign.mu.Unlock()
	return s.replacedBy(s.sign.there())
}

// replacedBy gives the store up where the root turned out to have other content: what is
// known of it, and what is open of it, is not what lies there now.
func (s *Store) replacedBy(err error) error {
	if !errors.Is(err, errReplaced) {
		return err
	}
	s.mu.Lock()
	was := s.replaced
	s.replaced = true
	s.mu.Unlock()
	if !was {
		s.log.WithError(err).Error("the content of the node was replaced while it was open; it must be opened anew")
	}
	return s.otherContent("use the store")
}

func (s *Store) otherContent(op string) error {
	return &store.Error{
		Kind: store.Unavailable, Op: op, Subject: "in " + s.path, Detail: "its content was replaced while it was open",
		Hint: "it is looked at anew when it is opened again",
	}
}
