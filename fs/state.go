package fs

// State is how safe an inode's content is.
type State byte

// The states, from the best to the one that wins where several hold.
const (
	// Durable: every wanted copy is verified.
	Durable State = iota
	// Pending: space is reserved, copies are under way or wait for a node.
	Pending
	// Short: fewer places have room than copies are wanted.
	Short
	// Unplaced: no place took it; the body on this machine is the only copy.
	Unplaced
	// Open: a writer has it open.
	Open
)

var stateNames = [...]string{Durable: "durable", Pending: "pending", Short: "short", Unplaced: "unplaced", Open: "open"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// ParseState reads the name of a state.
func ParseState(name string) (State, bool) {
	for s, n := range stateNames {
		if n == name {
			return State(s), true
		}
	}
	return 0, false
}
