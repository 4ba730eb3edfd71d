package blocks

import "context"

// Pace has whoever reads blocks wait for a turn before each of them: what is long must not
// hold up what is short. The turn ends with done. An error is why there is none: that of ctx.
type Pace func(ctx context.Context) (done func(), err error)

type paceKey struct{}

// Paced has the blocks of crates that are read with a context read at a pace, whatever store
// lies between. A block that another machine reads takes no turn here.
func Paced(ctx context.Context, p Pace) context.Context { return context.WithValue(ctx, paceKey{}, p) }

// turn waits for one, if blocks are paced.
func turn(ctx context.Context) (done func(), err error) {
	if p, ok := ctx.Value(paceKey{}).(Pace); ok {
		return p(ctx)
	}
	return func() {}, nil
}

// pacedHash is a hash to which each block is written in a turn.
type pacedHash struct {
	ctx context.Context
	to  interface{ Write([]byte) (int, error) }
}

func (h pacedHash) Write(p []byte) (int, error) {
	done, err := turn(h.ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	return h.to.Write(p)
}
