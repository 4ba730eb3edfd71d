package peerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/control"
	"stasis/peer/host"
	"stasis/router"
	"stasis/router/depot"
	"stasis/store"
)

// checker compares what the ledger says that owners have here with what the node has.
type checker struct {
	host     *host.Host
	read     bool
	progress control.Progress
	result   api.CheckResult
}

func (p *Peer) check(ctx context.Context, a api.CheckArgs, progress control.Progress) (any, error) {
	h := p.keeper.gate.get()
	if h == nil && !p.running() {
		if err := p.keeper.look(ctx); err != nil {
			return nil, err
		}
		h = p.keeper.gate.get()
	}
	if h == nil {
		return nil, p.keeper.state().Err
	}
	// Of several nodes the router reads every copy, not the owners' view of them one.
	c := &checker{host: h, read: a.Read && p.keeper.depot() == nil, progress: progress}
	owners, err := h.Owners(ctx)
	if err != nil {
		return nil, err
	}
	revoked := int64(0)
	for _, o := range owners {
		if o.Revoked {
			revoked += o.Crates
			continue
		}
		if err := c.owner(ctx, o); err != nil {
			return nil, err
		}
	}
	if revoked > 0 {
		if err := c.note("%s of revoked owners not looked at; `stasis peer revoke --discard` frees their space", counted(revoked, "crate was", "crates were")); err != nil {
			return nil, err
		}
	}
	if d := p.keeper.depot(); d != nil {
		if err := c.nodes(ctx, d, a.Read); err != nil {
			return nil, err
		}
		return c.result, nil
	}
	st, err := h.Status(ctx)
	if err != nil {
		return nil, err
	}
	if more := st.Store.Crates - c.result.Crates - revoked; more > 0 {
		err = c.note("%s on the node that the ledger does not know, or that came in the meantime", counted(more, "crate is", "crates are"))
	}
	return c.result, err
}

// nodes compares the router's manifests with what each node has.
func (c *checker) nodes(ctx context.Context, d *depot.Store, read bool) error {
	var failed error
	sum, err := d.Router().Check(ctx, read, func(f router.Finding) {
		if failed == nil {
			failed = c.progress(api.Finding{Problem: f.Problem, Text: f.Text})
		}
	})
	c.result.Copies = sum.Copies
	c.result.Bytes += sum.Bytes
	c.result.Problems += sum.Problems
	return errors.Join(err, failed)
}

func (c *checker) note(format string, args ...any) error {
	return c.progress(api.Finding{Text: fmt.Sprintf(format, args...)})
}

// owner goes through the crates of one owner.
func (c *checker) owner(ctx context.Context, o host.Owner) error {
	s, err := c.host.Session(o.Fingerprint, store.Token{})
	if err != nil {
		return err
	}
	defer s.Close()
	told := 0
	var cursor []byte
	for {
		page, err := s.List(ctx, cursor)
		if err != nil {
			return err
		}
		for _, info := range page.Crates {
			c.result.Crates++
			err := c.crate(ctx, s, info)
			switch {
			case err == nil:
				c.result.Copies++
				continue
			case ctx.Err() != nil || errors.Is(err, store.Unavailable):
				return err
			}
			c.result.Problems++
			if told++; told <= findingsOwner {
				if err := c.progress(api.Finding{Problem: true, Text: fmt.Sprintf("crate %s of %s: %v", info.ID, o.Name, err)}); err != nil {
					return err
				}
			}
		}
		if cursor = page.Next; cursor == nil {
			return nil
		}
	}
}

// crate looks for one crate, and reads it if it is to be read.
func (c *checker) crate(ctx context.Context, s store.Store, info store.CrateInfo) error {
	if !c.read {
		got, err := s.Stat(ctx, info.ID)
		if err == nil && (got.Size != info.Size || got.Root != info.Root) {
			err = &store.Error{Kind: store.Corrupt, Op: "compare", Detail: "ledger and node differ"}
		}
		return err
	}
	var nonce store.Digest
	_, _ = rand.Read(nonce[:]) // documented never to return an error
	if _, err := s.Verify(ctx, info.ID, 0, -1, nonce); err != nil {
		return err
	}
	c.result.Bytes += info.Size
	return nil
}
