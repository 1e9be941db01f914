// Package embedded runs a NATS server with JetStream inside this process, for the demonstration and for tests.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// Options configure a NATS server inside this process.
type Options struct {
	Dir    string      // where JetStream keeps its files; required
	Host   string      // default 127.0.0.1
	Port   int         // 0 = a free one
	Logger *zap.Logger // default: the server's log is dropped
	// Configure may change everything else before the start.
	Configure func(*server.Options)
}

// Server is a NATS server with JetStream inside this process: for the demonstration and for tests.
type Server struct {
	server *server.Server
}

// startTimeout bounds how long a server may take until it accepts clients: it reads back its files first.
const startTimeout = time.Minute

// Start starts the server and returns when clients can connect. The owner calls Close.
func Start(opts Options) (*Server, error) {
	if opts.Dir == "" {
		return nil, errors.New("embedded NATS: no directory for JetStream")
	}
	opts.Host = cmp.Or(opts.Host, "127.0.0.1")
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	o := &server.Options{
		ServerName: "embedded",
		Host:       opts.Host,
		Port:       opts.Port,
		JetStream:  true,
		StoreDir:   opts.Dir,
		// Streams reserve their limits here; the disk is the real bound.
		JetStreamMaxStore:  1 << 40,
		JetStreamMaxMemory: 1 << 30,
		NoSigs:             true,
	}
	if opts.Configure != nil {
		opts.Configure(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if opts.Logger != nil {
		s.SetLoggerV2(serverLog{opts.Logger.Sugar()}, false, false, false)
	}
	go s.Start() // returns once it listens; Close ends what it has started
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded NATS: not ready within %s", startTimeout)
	}
	return &Server{server: s}, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.server.ClientURL() }

// NATS returns the server itself.
func (s *Server) NATS() *server.Server { return s.server }

// Close stops the server and waits for it, at most until the context ends.
func (s *Server) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.server.Shutdown()
		s.server.WaitForShutdown()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the embedded NATS server: %w", ctx.Err())
	}
}

// serverLog carries the server's log into ours, one level lower: it is verbose.
type serverLog struct {
	log *zap.SugaredLogger
}

func (l serverLog) Noticef(format string, v ...any) { l.log.Debugf(format, v...) }
func (l serverLog) Warnf(format string, v ...any)   { l.log.Infof(format, v...) }
func (l serverLog) Fatalf(format string, v ...any)  { l.log.Errorf(format, v...) }
func (l serverLog) Errorf(format string, v ...any)  { l.log.Errorf(format, v...) }
func (l serverLog) Debugf(format string, v ...any)  { l.log.Debugf(format, v...) }
func (l serverLog) Tracef(format string, v ...any)  { l.log.Debugf(format, v...) }
