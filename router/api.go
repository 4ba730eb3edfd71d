package router

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/store"
	"stasis/store/ledger"
)

// Options of a Router. Ledger, Owner and Bodies must be given.
type Options struct {
	Ledger *ledger.DB
	Owner  store.OwnerID
	// Bodies gives the local files that crates are sent from.
	Bodies Bodies
	// BodyDir is the directory in which bodies lie; nodes on its filesystem adopt them.
	// Empty: nothing is adopted.
	BodyDir string
	// Observer hears what becomes of crates; nil: nobody does.
	Observer Observer
	// Log takes what an operator should know; nil discards it.
	Log logrus.FieldLogger
	// Clock is nil for the system's.
	Clock Clock
	// CacheBytes bounds the cache of verified blocks; 0 means CacheBytes.
	CacheBytes int64
	// CacheDir is the directory of the cache of blocks that were read from remote nodes;
	// empty: there is none. It is the router's alone.
	CacheDir string
	// CacheDiskBytes is the most that it may take; 0 means CacheDiskBytes.
	CacheDiskBytes int64
	// CacheFloor is how much it leaves free of its filesystem; 0 means CacheFloor.
	CacheFloor int64
	// Tokens are those by which nodes may know this history beside the router's own.
	Tokens []store.Token
	// TakeOver is a person's decision that this mount may use nodes that another
	// history of its vault used last.
	TakeOver bool
	// ReadOnly: nothing is sent, reserved or discarded, and no node is fenced.
	ReadOnly bool
}

// Clock tells the time. Boot never jumps and goes on while the machine is suspended.
type Clock interface {
	Now() time.Time
	Boot() time.Duration
}

// NodeSpec is one node as it is configured.
type NodeSpec struct {
	Name string
	Kind string // directory, container, memory: for people
	Zone string
	// Durable is what the kind promises; the store's own word counts once it is open.
	Durable bool
	// Rate is what may be sent to the node, in bytes a second; 0: no bound.
	Rate int64
	// Settings tells one configuration of the node from another: when it changes, the
	// store is opened anew.
	Settings string
	// Open opens the store whose leaf is want, or whichever is there if want is zero.
	// A path without a marker is Unavailable, another leaf Conflict, another vault's
	// Denied. It never initialises anything.
	Open func(ctx context.Context, want store.NodeID) (store.Store, error)
}

// Body is the local file, or the part of one, in which the bytes of a crate lie.
type Body struct {
	Path   string
	Offset int64 // bytes; of a crate's first byte
	Size   int64 // bytes; the crate's
	// Adoptable: the file is this one crate from end to end, frozen, and may be renamed
	// away. Adopted is called when that has happened.
	Adoptable bool
	// Open opens the file to be read, so that it keeps its content until Close; nil: it is opened
	// by its path.
	Open func() (BodyFile, error)
}

// BodyFile is the file of a body that is open to be read.
type BodyFile interface {
	io.ReadSeekCloser
	io.ReaderAt
}

func (b *Body) open() (BodyFile, error) {
	if b.Open == nil {
		return os.Open(b.Path)
	}
	return b.Open()
}

// Bodies knows where crates lie that are not on every node yet.
type Bodies interface {
	// Body answers from a record, whether or not the file is still there: after a crash
	// amid an adoption it is in the node already, and the repeat finds that out. NotFound
	// if the crate has no body any more. It may be called concurrently, takes
	// microseconds and must not call the router.
	Body(crate store.CrateID) (Body, error)
}

// Observer hears of changes. Its methods are called from goroutines of the router
// with no lock held, one at a time for one node, and should return soon; they may call
// the router. What they are told is in the ledger already.
type Observer interface {
	// Placed: receipts of these crates came in, or destinations were struck off, or more or fewer
	// copies are wanted. nil says that what follows of that is done, as good as the ledger can
	// have it; otherwise, and after a kill, it is told again.
	Placed(ms []Manifest) error
	// ReceivedTx is called in the update that records a receipt, as it is going to be, in a
	// transaction of the shared space, and may write ReceivedKeys keys. adopted: the body was
	// renamed into the node. owed says that more follows, which Placed is told of in any case and
	// a start again. It must not call the router or the ledger otherwise than by tx.
	ReceivedTx(tx *ledger.Tx, m *Manifest, adopted bool) (owed bool, err error)
	// Adopted: the crate's body was renamed into a node; File and ReadAt serve it now.
	Adopted(crate store.CrateID, node store.NodeID)
	// Retired: the crate's bytes came out differently at two times. It stays readable as
	// it was first recorded and is never sent again; its content needs a new crate. It is told
	// again at each start until Paid.
	Retired(m Manifest)
	// Rotten: the crate's body has other bytes than were recorded, which its copies have: it is
	// to be read from them.
	Rotten(crate store.CrateID)
	// Counted: the copies on a node, which were unknown for a while, count again.
	Counted()
	// NodesChanged: a node was added, came back or got room: content that is short or
	// unplaced may ask again.
	NodesChanged()
}

// Policy is the effective policy of an inode.
type Policy struct {
	// Copies is how many durable copies are wanted; 0 means 1.
	Copies int
	// Least is with how few places a close still succeeds when others refused for
	// space; 0 means 1.
	Least int
	// Zones is how many distinct zones the copies should lie in; 0: spread as it comes.
	Zones int
	// Avoid names nodes that get no copy.
	Avoid []string
}

// DrawRequest asks for the space of one content.
type DrawRequest struct {
	Policy Policy
	// Bytes is what each copy will cost: the sum of store.Charge over its crates.
	Bytes int64
	// Resident is how much of Bytes lies already in a body that will be adoptable: the
	// node that will adopt it is not charged twice for the disk.
	Resident int64
	// Held is the plan this content has already; it is replaced by the result, or given
	// back when the draw fails. Its nodes are kept where they still can be.
	Held Plan
	// Keep: when the draw fails, Held is held still, as far as its nodes are configured.
	Keep bool
	// Places: a draw for fewer targets fails, and so does one of which no node has promised
	// its part; 0: neither.
	Places int
	// Exclude are leaves that have the content already or must not get it. They count
	// for the zones.
	Exclude []store.NodeID
}

// NewCrate is a crate about to be registered.
type NewCrate struct {
	ID     store.CrateID
	Size   int64  // bytes, 1..store.MaxCrate
	Origin uint64 // the inode it was made for
	Source string // where it came from, for people and for recovery
	Plan   Plan
	Barred []store.NodeID // that must get no copy, now or later
}

// NodeState is what a node is, in one word, as commands.md has them.
type NodeState string

// The states of a node.
const (
	Online      NodeState = "online"
	Missing     NodeState = "missing"     // its path has no marker: an unmounted disk
	Unreachable NodeState = "unreachable" // it does not answer, or refuses us
	Full        NodeState = "full"        // online, and refused something for space
	Draining    NodeState = "draining"    // being removed
)

// NodeStatus is what is known of one node. Sizes are in bytes.
type NodeStatus struct {
	Name          string
	ID            store.NodeID // zero until it was opened once
	Kind          string
	Zone          string
	State         NodeState
	Configured    bool // false: only its queue and its record are left
	Durable       bool
	Crates, Bytes int64 // what the store holds and charges; as last seen if it is silent
	Capacity      int64
	Device        uint64 // tells nodes on one disk; 0: unknown
	// Free is what this vault may still draw: the store's free space and the unpromised
	// part of our grant. Reserved is the rest of what the store has promised.
	Free, Reserved              int64
	PendingCrates, PendingBytes int64
	Discards                    int64 // crates to be discarded there
	Damage                      int64 // places the store found corrupt since it was opened
	Seen                        time.Time
	LastError                   string    // empty when all is well
	Paused                      bool      // nothing is sent to it, as a person wishes
	PausedUntil                 time.Time // zero: until it is resumed
	Stuck                       bool      // full: it has no room even for what it has promised space for
	Refuses                     bool      // online, and takes nothing: a disk that may only be read; LastError says why
	Barred                      bool      // it was found lying: nothing is sent to it until it is resumed
	Warning                     string    // what the person should know: two nodes on one disk
	// Unknown is why the copies there are not known and don't count, whatever its state; empty: they
	// are. Uncounted: it is only that they are counted for the first time.
	Unknown   string
	Uncounted bool
}

// Pending is what still has to be sent, over all nodes.
type Pending struct {
	Crates, Bytes int64     // copies outstanding, and their bytes
	Oldest        time.Time // when the oldest was queued; zero if there is none
}

// Removal says what removing a node means, or meant.
type Removal struct {
	Crates    int64 // crates with a copy or a planned copy there
	Bytes     int64 // of those, the content
	Below     int64 // crates that would fall below their wanted copies
	Files     int64 // inodes these belong to
	Only      int64 // crates whose only verified copy is there
	OnlyFiles int64 // inodes these belong to
	Queued    int64 // copies not yet sent there
	Refused   bool  // it is refused as asked, or would be
	Removed   bool  // whether it was done
}
