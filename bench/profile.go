package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profile drains a backlog of each work and writes what the CPU did meanwhile, as text: of the runner and of NATS by
// Go's own profiler, of PostgreSQL by perf where it is there.
func (w *world) profile(ctx context.Context) error {
	if err := os.MkdirAll(w.opts.profiles, 0o755); err != nil {
		return err
	}
	list := w.opts.wanted()
	for i := range list {
		k := &list[i]
		for _, c := range append([]contender{w.bare()}, w.runners(k)...) {
			if err := w.profileOne(ctx, c, k); err != nil {
				return fmt.Errorf("work %s, %s: %w", k.name, c.mode, err)
			}
			progress("profile  %-8s  %s", k.name, c.mode)
		}
	}
	return nil
}

func (w *world) runners(k *work) []contender {
	var out []contender
	for _, mode := range k.modes() {
		out = append(out, w.runner(mode))
	}
	return out
}

func (w *world) profileOne(ctx context.Context, c contender, k *work) error {
	name := filepath.Join(w.opts.profiles, k.name+"-"+c.mode)
	raw := filepath.Join(w.dir, "worker.pprof")
	perf := w.startPerf(ctx, k)
	_, err := w.inspect(ctx, c, k, k.jobs, raw)
	err = errors.Join(err, w.stopPerf(ctx, perf, name+"-postgres.txt"))
	who := "runner"
	if c.mode == "bare" {
		who = "bare"
	}
	return errors.Join(err,
		pprofText(ctx, raw, name+"-"+who+".txt"), pprofText(ctx, filepath.Join(w.dir, "nats.pprof"), name+"-nats.txt"))
}

func pprofText(ctx context.Context, raw, out string) error {
	var text strings.Builder
	for _, args := range [][]string{{"-top", "-nodecount=40"}, {"-top", "-cum", "-nodecount=90"}} {
		cmd := exec.CommandContext(ctx, "go", append(append([]string{"tool", "pprof"}, args...), raw)...)
		part, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("pprof: %w", err)
		}
		text.Write(part)
		text.WriteByte('\n')
	}
	return os.WriteFile(out, []byte(text.String()), 0o644)
}

// startPerf records the machine for the time of a backlog; nil where there is no perf.
func (w *world) startPerf(ctx context.Context, k *work) *exec.Cmd {
	if _, err := exec.LookPath("perf"); err != nil || k.engine != "postgres" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "perf", "record", "-a", "-F", "499", "-o", filepath.Join(w.dir, "perf.data"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if cmd.Start() != nil {
		return nil
	}
	return cmd
}

func (w *world) stopPerf(ctx context.Context, cmd *exec.Cmd, out string) error {
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	text, err := exec.CommandContext(ctx, "perf", "report", "--stdio", "-i", filepath.Join(w.dir, "perf.data"),
		"--comms", "postgres", "--percentage", "relative", "--sort", "symbol", "--percent-limit", "0.5").Output()
	if err != nil {
		return nil // not allowed here: the other profiles are still worth having
	}
	return os.WriteFile(out, text, 0o644)
}
