package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	stopTime = 40 * time.Second // a runner drains for 30 s at most
	ticks    = 100              // of /proc's clock in a second, on every Linux that Go runs on
)

// process is a role or a runner.
type process struct {
	cmd   *exec.Cmd
	lines *bufio.Reader // its standard output
	log   bytes.Buffer  // its standard error
	done  chan struct{}
	err   error
	hold  func() error // closes its standard input
}

// start starts a program; environment is all that it has.
func start(environment []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewReader(out)
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

// startRole starts this program in a role.
func startRole(role string, args ...string) (*process, error) {
	return startRoleWith(os.Environ(), role, args...)
}

func startRoleWith(environment []string, role string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(environment, self, append([]string{role}, args...)...)
}

// line is the next line that the process prints.
func (p *process) line() (string, error) {
	text, err := p.lines.ReadString('\n')
	if err != nil {
		<-p.done
		return "", fmt.Errorf("%s ended: %w: %s", p.name(), p.err, p.log.String())
	}
	return strings.TrimSpace(text), nil
}

func (p *process) name() string { return strings.Join(p.cmd.Args[:min(2, len(p.cmd.Args))], " ") }

// stop asks the process to end, and kills it when it does not.
func (p *process) stop() error {
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

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// mark starts or ends a span of the process's marks and returns what it answers.
func (p *process) mark() (string, error) {
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return "", err
	}
	return p.line()
}

func (p *process) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid, false) }

// cpuOf is the CPU time of a process so far; of its children, too, also of those that have ended.
func cpuOf(pid int, children bool) time.Duration {
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
			total += cpuOf(child, false)
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

// memory is a figure of /proc/<pid>/status, such as VmRSS, in bytes.
func (p *process) memory(key string) int64 {
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

// await waits until ok, or fails when the context ends or the process does.
func (p *process) await(ctx context.Context, ok <-chan struct{}) error {
	select {
	case <-ok:
		return nil
	case <-p.done:
		return fmt.Errorf("%s ended: %w: %s", p.name(), p.err, p.log.String())
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %s", p.name(), ctx.Err(), p.log.String())
	}
}
