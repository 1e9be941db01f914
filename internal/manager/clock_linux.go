package manager

import (
	"time"

	"golang.org/x/sys/unix"
)

// LeaseClock returns a clock for leases: it goes on while the machine is suspended, as the server's clock does, and is not
// set by anybody. Its times are compared with each other only.
func LeaseClock() func() time.Time {
	return func() time.Time {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
			panic("CLOCK_BOOTTIME: " + err.Error()) // every kernel since 2.6.39 has it
		}
		return time.Unix(now.Unix())
	}
}
