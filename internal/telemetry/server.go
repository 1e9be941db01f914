package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/net/netutil"
)

// The bounds of the server: clients of the port can use no more than these of the runner.
const (
	maxConnections  = 128
	maxHeader       = 16 << 10
	readTimeout     = 5 * time.Second
	writeTimeout    = 30 * time.Second
	profileTimeout  = 5 * time.Minute // profiles are written as long as they were asked for
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 2 * time.Second
)

// Readiness is whether jobs can run here.
type Readiness struct {
	Ready   bool     `json:"ready"`
	State   string   `json:"state"`
	Reasons []string `json:"reasons,omitempty"` // what does not work; safe to show
}

// ServerOptions is what the server is made with.
type ServerOptions struct {
	Address string // host and port
	Metrics http.Handler
	Ready   func() Readiness
	Level   *zap.AtomicLevel // changed by PUT /loglevel; nil: there is no such path
	PProf   bool             // /debug/pprof/
	Logger  *zap.Logger
}

// Server is the HTTP server of monitoring.
type Server struct {
	opts     ServerOptions
	listener net.Listener
	server   *http.Server
}

// Listen opens the port. Nothing is answered before Run.
func Listen(ctx context.Context, opts ServerOptions) (*Server, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on http.address %s: %w", opts.Address, err)
	}
	s := &Server{opts: opts, listener: netutil.LimitListener(listener, maxConnections)}
	s.server = &http.Server{
		Handler: s.routes(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
	}
	if opts.PProf {
		s.server.WriteTimeout = profileTimeout
	}
	if s.server.ErrorLog, err = zap.NewStdLogAt(opts.Logger, zapcore.DebugLevel); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run answers until ctx ends, then lets those who are being answered have a moment. It runs once, and ends the
// listening in any case.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	select {
	case err := <-served: // by itself: the listener is gone
		return fmt.Errorf("serve http.address: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // requests in progress have had their time
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http.address: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.opts.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		readiness := s.opts.Ready()
		status := http.StatusOK
		if !readiness.Ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, readiness)
	})
	if level := s.opts.Level; level != nil {
		mux.HandleFunc("/loglevel", func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxHeader)
			before := level.Level()
			level.ServeHTTP(w, r)
			if now := level.Level(); now != before {
				logged := min(max(now, zapcore.InfoLevel), zapcore.ErrorLevel) // a change to error is reported, too
				s.opts.Logger.Log(logged, "log level changed", zap.Stringer("from", before), zap.Stringer("to", now))
			}
		})
	}
	if s.opts.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client is gone
}
