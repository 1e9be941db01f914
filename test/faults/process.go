package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a program that was started, with its output in a file.
type process struct {
	name     string
	cmd      *exec.Cmd
	log      string    // path of its output
	reported int64     // bytes that others had written there before
	in       io.Closer // its standard input, which ends with this program
	done     chan struct{}

	expectedExit atomic.Bool // a nemesis kills it, or has it die somewhere
	asked        sync.Once   // to end: a second signal would end a runner immediately

	mu   sync.Mutex
	peak int64 // bytes of the largest resident size that was seen
}

// start starts a program with an environment and nothing else of this one's; output is appended to the log.
func start(name, log string, environment []string, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(program, args...), log: log, reported: size(log), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environment, out, out
	// Ctrl-C is for this program, which ends the others; when it is killed they go along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	_ = out.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// signal sends a signal; one to a process that has ended does nothing.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// kill kills the process, even a stopped one, and waits for its exit.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// end asks the process to end, unless another nemesis has, and kills it when it does not within the time. It returns how long it took.
func (p *process) end(within time.Duration) time.Duration {
	from := time.Now()
	p.asked.Do(func() { p.signal(syscall.SIGTERM) })
	select {
	case <-p.done:
	case <-time.After(within):
		p.kill()
	}
	return time.Since(from)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// code is the exit code of an ended process, -1 if a signal ended it.
func (p *process) code() int { return p.cmd.ProcessState.ExitCode() }

// silent reports whether the process has written nothing.
func (p *process) silent() bool { return size(p.log) == p.reported }

// size is a file's in bytes; 0 when there is none.
func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// measure reads the largest resident size so far.
func (p *process) measure() int64 {
	size := status(p.cmd.Process.Pid, "VmHWM")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = max(p.peak, size)
	return p.peak
}

// status is a figure of /proc/<pid>/status in bytes, such as VmRSS; 0 when the process is gone.
func status(pid int, key string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// wait lets time pass, and returns early with an error when the context ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventually asks again and again until the answer is yes.
func eventually(ctx context.Context, within time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !ok() {
		if wait(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("not within %s: %s", within, what)
		}
	}
	return nil
}
