package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameRequest is how long after the first signal another one belongs to the same request. timeout(1) signals its command and then
// its whole process group, so that the command gets each signal twice within a moment.
const sameRequest = 100 * time.Millisecond

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
// immediately, unless it follows within sameRequest; SIGHUP never does, because terminals send it twice and service managers send
// it beside SIGTERM. A process that was started with SIGHUP ignored (nohup) goes on ignoring it. The goroutine lives as long as the
// process.
func signalContext() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, wanted...)
	go func() {
		var asked time.Time // of the first SIGINT or SIGTERM
		for s := range signals {
			if got, ok := s.(syscall.Signal); ok {
				cancel(stopSignal{got}) // only the first one counts
			}
			switch {
			case s == syscall.SIGHUP:
			case asked.IsZero():
				asked = time.Now()
			case time.Since(asked) >= sameRequest:
				os.Exit(exitSignal)
			}
		}
	}()
	return ctx
}
