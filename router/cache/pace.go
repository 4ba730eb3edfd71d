package cache

import "time"

// pace holds writing to KeepRate. Once the burst is used up nothing is taken until half of it
// is there again, so that what is kept are stretches and not single blocks: a reader in order
// gets either sooner.
type pace struct {
	used int64     // bytes of KeepBurst
	at   time.Time // when that was so
	over bool      // the burst was used up
}

// allows takes so many bytes, if they may be written.
func (p *pace) allows(bytes int64, now time.Time) bool {
	back := int64(now.Sub(p.at).Seconds() * KeepRate)
	p.used, p.at = max(0, p.used-back), now
	if p.over && p.used > KeepBurst/2 || p.used+bytes > KeepBurst {
		p.over = true
		return false
	}
	p.over = false
	p.used += bytes
	return true
}
