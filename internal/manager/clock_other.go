//go:build !linux

package manager

import "time"

// LeaseClock returns a clock for leases. On systems other than Linux it may stand still while the machine is suspended.
func LeaseClock() func() time.Time { return time.Now }
