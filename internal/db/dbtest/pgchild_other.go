//go:build !linux

package dbtest

import "syscall"

// childAttributes has no way here to make a child end with a killed process.
func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}
