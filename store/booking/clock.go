package booking

import (
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// Clock is the time that leases are counted on. Tests replace it.
type Clock interface {
	// Boot runs steadily from the machine's start, through suspend too: CLOCK_BOOTTIME.
	Boot() time.Duration
	// BootID tells one run of the machine from another; zero if that is not known.
	BootID() [16]byte
	// Wall is the time of day, which may jump.
	Wall() time.Time
}

// System is the machine's own clock.
var System Clock = systemClock{}

type systemClock struct{}

func (systemClock) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Every Linux since 2.6.39 has this clock; without it no lease can be kept.
		panic("booking: CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

var bootID = sync.OnceValue(func() [16]byte {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return [16]byte{} // unknown: leases are then carried over by the wall clock
	}
	id, err := uuid.Parse(strings.TrimSpace(string(b)))
	if err != nil {
		return [16]byte{}
	}
	return id
})

func (systemClock) BootID() [16]byte { return bootID() }
func (systemClock) Wall() time.Time  { return time.Now() }
