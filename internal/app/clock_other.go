//go:build !linux

package app

import "time"

// leaseClock returns a clock for leases. On systems other than Linux it may stand still while the machine is suspended.
func leaseClock() func() time.Time { return time.Now }
