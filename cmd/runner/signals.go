package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// stopSignal is the cause of a context that a signal canceled.
type stopSignal struct{ syscall.Signal }

func (s stopSignal) Error() string { return signalName(s.Signal) }

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGHUP:
		return "SIGHUP"
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	default:
		return s.String()
	}
}

// signalContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. A second SIGINT or SIGTERM exits
// immediately; SIGHUP never does, because terminals send it twice and service managers send it beside SIGTERM. A process
// that was started with SIGHUP ignored (nohup) goes on ignoring it. The goroutine lives as long as the process.
func signalContext() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, wanted...)
	go func() {
		asked := 0
		for s := range signals {
			if got, ok := s.(syscall.Signal); ok {
				cancel(stopSignal{got}) // only the first one counts
			}
			if s != syscall.SIGHUP {
				asked++
			}
			if asked > 1 {
				os.Exit(exitSignal)
			}
		}
	}()
	return ctx
}
