package guard

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Refusals logs what anybody can cause at will: each message now and then, with how often
// it was left out since.
type Refusals struct {
	Log logrus.FieldLogger

	mu   sync.Mutex
	said map[string]*said
}

type said struct {
	last    time.Time
	skipped int
}

// Warn logs a refusal. Messages are constants: they are remembered.
func (r *Refusals) Warn(message string, fields logrus.Fields) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.said[message]
	if s == nil {
		s = new(said)
		if r.said == nil {
			r.said = make(map[string]*said)
		}
		r.said[message] = s
	}
	now := time.Now()
	if !s.last.IsZero() && now.Sub(s.last) < logEvery {
		s.skipped++
		return
	}
	log := r.Log.WithFields(fields)
	if s.skipped > 0 {
		log = log.WithField("others_since", s.skipped)
	}
	s.last, s.skipped = now, 0
	log.Warn(message)
}
