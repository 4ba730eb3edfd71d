package storetest

import (
	"encoding/binary"
	"sync"
	"time"
)

// Clock is a booking.Clock that moves when the test says so. It starts at a fixed
// time of day on boot 1.
type Clock struct {
	mu   sync.Mutex
	boot time.Duration
	wall time.Time
	run  uint64
}

// NewClock gives a clock that stands.
func NewClock() *Clock {
	return &Clock{boot: time.Hour, wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), run: 1}
}

// Advance lets time pass.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot += d
	c.wall = c.wall.Add(d)
}

// Jump sets the wall clock forward or back, without any time passing.
func (c *Clock) Jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}

// Reboot is a restart of the machine that took d.
func (c *Clock) Reboot(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot = 10 * time.Second
	c.wall = c.wall.Add(d)
	c.run++
}

// Boot is time since the last Reboot.
func (c *Clock) Boot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// Wall is the time of day.
func (c *Clock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// BootID differs after each Reboot.
func (c *Clock) BootID() (id [16]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	binary.BigEndian.PutUint64(id[:], c.run)
	return id
}
