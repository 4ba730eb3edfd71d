package wire

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"stasis/store"
)

// Signs counts what the other side of one stream sends that only says that it lives: it costs
// its sender a byte, and the reader some hundred times that. Not for concurrent use.
type Signs struct{ left *rate.Limiter }

// Heed takes note of one sign. The error, store.Invalid, says that there are too many: then the
// stream is to be ended.
func (s *Signs) Heed() error { return s.heed(time.Now()) }

func (s *Signs) heed(now time.Time) error {
	if s.left == nil {
		s.left = rate.NewLimiter(signsRate, signsBurst)
	}
	if s.left.AllowN(now, 1) {
		return nil
	}
	return &store.Error{Kind: store.Invalid, Op: "read a stream", Detail: fmt.Sprintf("the peer says more than %d times a second that it lives", signsRate)}
}
