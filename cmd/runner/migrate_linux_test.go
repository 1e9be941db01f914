package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// terminal returns the two ends of a terminal: the one that a person has, and the one that a process gets.
func terminal(t *testing.T) (person, process *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED, not tested: no terminal: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	var number, unlock uint32
	raw, err := person.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for request, arg := range map[uintptr]*uint32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &unlock} {
			_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(arg)))
			require.Zero(t, errno)
		}
	}))
	process, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return person, process
}

// onTerminal runs a line on a terminal, answers its question, and returns its exit code and what was to be seen.
func (w *migrateWorld) onTerminal(line, answer string) (int, string) {
	w.t.Helper()
	person, process := terminal(w.t)
	p := newProcess(w.t, migrateLine(w.config, line)...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = process, process, process
	p.start()
	require.NoError(w.t, process.Close())
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		_, _ = io.Copy(p, person) // ends with an error when the process has ended
	}()
	if answer != "" {
		p.await("[y/N]")
		_, err := person.WriteString(answer + "\n")
		require.NoError(w.t, err)
	}
	<-p.done
	<-seen
	return p.cmd.ProcessState.ExitCode(), p.output()
}

// What destroys or overrules is asked for on a terminal.
func TestMigrateAsks(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	code, seen := w.onTerminal("up shop", "")
	require.Equal(t, exitOK, code, seen)
	require.Contains(t, seen, "shop is at version 3, from none")

	code, seen = w.onTerminal("down shop 1", "n")
	require.Equal(t, exitFailure, code, seen)
	require.Contains(t, seen, "U3__pack.sql reverts version 3\r\nU2__name.sql reverts version 2\r\nRevert 2 files of shop? [y/N]")
	require.Contains(t, seen, "not confirmed; nothing was changed")
	require.Contains(t, w.run(exitOK, "up shop").out, "shop is at version 3, nothing is pending")

	code, seen = w.onTerminal("repair shop 2", "y")
	require.Equal(t, exitOK, code, seen)
	require.Contains(t, seen, "Set the version of shop to 2?")
	code, seen = w.onTerminal("goto shop 1", "yes")
	require.Equal(t, exitOK, code, seen)
	code, seen = w.onTerminal("goto shop 2", "")
	require.Equal(t, exitOK, code, "up destroys nothing: %s", seen)
	code, seen = w.onTerminal("down shop 1 --yes", "")
	require.Equal(t, exitOK, code, seen)
	require.NotContains(t, seen, "[y/N]")
}
