package dbtest

import "syscall"

// childAttributes make a child end (as by an immediate stop) when this process is killed.
func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
}
