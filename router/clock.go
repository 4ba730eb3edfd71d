package router

import (
	"time"

	"golang.org/x/sys/unix"
)

// System is the machine's clock.
var System Clock = systemClock{}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Every Linux since 2.6.39 has this clock; without it no lease can be counted.
		panic("router: CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
