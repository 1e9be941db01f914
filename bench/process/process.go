// Package process starts the programs of a benchmark and reads from /proc what they use.
package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stopTime = 40 * time.Second // a runner drains for 30 s at most
	ticks    = 100              // of /proc's clock in a second, on every Linux that Go runs on
)

// Process is a role or a runner.
type Process struct {
	cmd  *exec.Cmd
	out  *bufio.Reader // its standard output
	log  lines         // its standard error
	done chan struct{}
	err  error
	hold func() error // closes its standard input
}

// lines are what a process has written, which may be read meanwhile.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Start starts a program; environment is all that it has.
func Start(environment []string, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environment, w, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the orchestrator, which ends the others
	p.cmd.WaitDelay = 5 * time.Second
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.hold = in.Close
	err = p.cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// StartRole starts this program in a role.
func StartRole(role string, args ...string) (*Process, error) {
	return StartRoleWith(os.Environ(), role, args...)
}

// StartRoleWith starts it with another environment.
func StartRoleWith(environment []string, role string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return Start(environment, self, append([]string{role}, args...)...)
}

// Line is the next line that the process prints.
func (p *Process) Line() (string, error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		<-p.done
		return "", fmt.Errorf("%s ended: %w: %s", p.name(), p.err, p.log.String())
	}
	return strings.TrimSpace(text), nil
}

func (p *Process) name() string { return strings.Join(p.cmd.Args[:min(2, len(p.cmd.Args))], " ") }

// Stop asks the process to end, and kills it when it does not.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = p.hold()
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", p.name(), p.err, p.log.String())
	}
	return nil
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Mark starts or ends a span of the process's marks and returns what it answers.
func (p *Process) Mark() (string, error) {
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return "", err
	}
	return p.Line()
}

// CPU is that of the process so far.
func (p *Process) CPU() time.Duration { return CPUOf(p.cmd.Process.Pid, false) }

// CPUOf is the CPU time of a process so far; of its children, too, also of those that have ended.
func CPUOf(pid int, children bool) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	last := 13 // utime, stime; then those of children that were waited for
	if children {
		last = 15
	}
	var sum int64
	for _, f := range fields[11:last] {
		n, _ := strconv.ParseInt(f, 10, 64)
		sum += n
	}
	total := time.Duration(sum) * time.Second / ticks
	if children {
		for _, child := range childrenOf(pid) {
			total += CPUOf(child, false)
		}
	}
	return total
}

func childrenOf(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, f := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Memory is a figure of /proc/<pid>/status, such as VmRSS, in bytes.
func (p *Process) Memory(key string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
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

// List is processes that do the same work together: the workers of a backlog, the servers of a cluster.
type List []*Process

// One is a process that works by itself.
func One(p *Process, err error) (List, error) {
	if err != nil {
		return nil, err
	}
	return List{p}, nil
}

// Stop asks one process after the other to end.
func (ps List) Stop() (err error) {
	for _, p := range ps {
		err = errors.Join(err, p.Stop())
	}
	return err
}

// CPU is that of all processes so far.
func (ps List) CPU() (sum time.Duration) {
	for _, p := range ps {
		sum += p.CPU()
	}
	return sum
}

// Memory is the figure of the largest process.
func (ps List) Memory(key string) (largest int64) {
	for _, p := range ps {
		largest = max(largest, p.Memory(key))
	}
	return largest
}

// Await waits until ok, or fails when the context ends or a process does. It calls tick every second.
func (ps List) Await(ctx context.Context, ok <-chan struct{}, tick func()) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ok:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %s", ps[0].name(), ctx.Err(), ps[0].log.String())
		case <-ticker.C:
			tick()
		}
		for _, p := range ps {
			if p.Ended() {
				return fmt.Errorf("%s ended: %w: %s", p.name(), p.err, p.log.String())
			}
		}
	}
}

// Await waits until ok, or fails when the context ends or the process does.
func (p *Process) Await(ctx context.Context, ok <-chan struct{}) error {
	return List{p}.Await(ctx, ok, func() {})
}

// Wait waits until the process has ended by itself.
func (p *Process) Wait() { <-p.done }
