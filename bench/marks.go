package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// marks let the orchestrator look into a role: a signal SIGUSR1 starts a span, the next one ends it. The role answers
// each with a line on its standard output: what the span allocated, as JSON.
type marks struct {
	cpu *string // file of the span's CPU profile
}

// allocations of a span.
type allocations struct {
	Count uint64 `json:"count"`
	Bytes uint64 `json:"bytes"`
}

func marksFlags(flags *flag.FlagSet) marks {
	return marks{cpu: flags.String("cpuprofile", "", "file for the CPU profile between two SIGUSR1")}
}

// serve runs f and answers signals until f has returned.
func (m marks) serve(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	go func() { done <- m.answer(ctx, signals) }()
	err := f(ctx)
	cancel()
	return errors.Join(err, <-done)
}

func (m marks) answer(ctx context.Context, signals <-chan os.Signal) error {
	var begin *runtime.MemStats
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		}
		now := new(runtime.MemStats)
		runtime.ReadMemStats(now)
		var span allocations
		var err error
		if begin == nil {
			begin, err = now, m.beginProfile()
		} else {
			span = allocations{Count: now.Mallocs - begin.Mallocs, Bytes: now.TotalAlloc - begin.TotalAlloc}
			begin = nil
			pprof.StopCPUProfile()
		}
		if err != nil {
			return err
		}
		text, err := json.Marshal(span)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	}
}

func (m marks) beginProfile() error {
	if *m.cpu == "" {
		return nil
	}
	f, err := os.Create(*m.cpu)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f) // the file is closed with the process
}
