package fs

import (
	"context"

	"stasis/fs/body"
	"stasis/router"
	"stasis/store"
)

// places is where the content of a body goes. In all but rare cases one plan holds all of
// it; where no place has room for it whole it is cut into parts, and runs of them go to
// places of their own.
type places struct {
	Part int64 // bytes; no piece is longer
	Runs []run
}

// run is a number of pieces, in order, with one plan.
type run struct {
	Pieces int
	Plan   router.Plan
}

// plan gives that of a piece. The last run takes what is over: a body's holes may lie
// otherwise than they did at its commit.
func (p *places) plan(piece int) *router.Plan {
	if i := p.run(piece); i >= 0 {
		return &p.Runs[i].Plan
	}
	return &router.Plan{}
}

// run is the run that a piece belongs to; -1 if there is none.
func (p *places) run(piece int) int {
	for i := range p.Runs {
		if piece -= p.Runs[i].Pieces; piece < 0 || i == len(p.Runs)-1 {
			return i
		}
	}
	return -1
}

// wanted is how many copies were asked for, 0 if nothing is to be sent.
func (p *places) wanted() int {
	if len(p.Runs) == 0 {
		return 0
	}
	return max(1, p.Runs[0].Plan.Wanted)
}

// say gives what there is to say of the plans: why there are too few places, or which
// nodes are waited for.
func (p *places) say() (short, waiting string) {
	for i := range p.Runs {
		if short == "" {
			short = p.Runs[i].Plan.Short
		}
		if waiting == "" {
			waiting = p.Runs[i].Plan.Waiting
		}
	}
	return short, waiting
}

func (s *FS) returnPlaces(p places) {
	for i := range p.Runs {
		s.router.Return(p.Runs[i].Plan)
	}
}

// cut divides spans into pieces of at most part bytes.
func cut(spans []body.Span, part int64) []body.Span {
	var out []body.Span
	for _, p := range spans {
		for p.Length > part {
			out = append(out, body.Span{Offset: p.Offset, Length: part})
			p.Offset += part
			p.Length -= part
		}
		out = append(out, p)
	}
	return out
}

// draw asks the router for space. Content without bytes needs none. held, if anything,
// is what the content has already; it is part of the result, or given back.
func (s *FS) draw(ctx context.Context, pol router.Policy, c cost, held places) (places, error) {
	if len(c.spans) == 0 {
		s.returnPlaces(held)
		return places{}, nil
	}
	pieces := cut(c.spans, store.MaxCrate)
	q := router.DrawRequest{Policy: pol, Bytes: charge(pieces) + c.ahead, Keep: c.ahead > 0}
	if c.adoptable && len(pieces) == 1 {
		q.Resident = charge(pieces)
	}
	if len(held.Runs) == 1 {
		q.Held = held.Runs[0].Plan
	} else {
		s.returnPlaces(held)
	}
	plan, err := s.router.Draw(ctx, q)
	if err == nil {
		return places{Part: store.MaxCrate, Runs: []run{{len(pieces), plan}}}, nil
	}
	if parts := cut(c.spans, partSize); c.ahead == 0 && isSpace(err) && len(parts) > 1 {
		if p, ok := s.drawParts(ctx, pol, parts); ok {
			return p, nil
		}
	}
	return places{}, err
}

// drawParts looks for room for runs of parts, as long as they come. What it can't place
// wholly it gives back.
func (s *FS) drawParts(ctx context.Context, pol router.Policy, parts []body.Span) (places, bool) {
	p := places{Part: partSize}
	for n := len(parts); len(parts) > 0; {
		n = min(n, len(parts))
		plan, err := s.router.Draw(ctx, router.DrawRequest{Policy: pol, Bytes: charge(parts[:n])})
		switch {
		case err == nil && plan.Short == "":
			p.Runs = append(p.Runs, run{n, plan})
			parts = parts[n:]
			n = len(parts)
			continue
		case err == nil && n == 1:
			p.Runs = append(p.Runs, run{n, plan})
			parts = parts[n:]
			continue
		case err == nil:
			s.router.Return(plan) // fewer parts may find all their copies
		case !isSpace(err) || n == 1:
			s.returnPlaces(p)
			return places{}, false
		}
		n = (n + 1) / 2
	}
	return p, true
}

// fit reports whether the space that was drawn is enough for pieces.
func (p *places) fit(pieces []body.Span) bool {
	if len(p.Runs) > 1 {
		return false
	}
	for i := range p.Runs {
		for _, t := range p.Runs[i].Plan.Targets {
			if t.Bytes < charge(pieces) {
				return false
			}
		}
	}
	return true
}

func charge(pieces []body.Span) (bytes int64) {
	for _, p := range pieces {
		bytes += store.Charge(p.Length)
	}
	return bytes
}
