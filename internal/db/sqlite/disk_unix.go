//go:build linux || darwin

package sqlite

import "syscall"

// freeSpace is the room that is left for this process on a folder's disk, bytes.
func freeSpace(folder string) (uint64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}

// mayWrite reports whether this process may make files in a folder.
func mayWrite(folder string) bool {
	const write = 2 // W_OK
	return syscall.Access(folder, write) == nil
}
