package ui

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/net/netutil"

	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
)

// Options configure a page.
type Options struct {
	NATS      *nats.Conn // of a user whose permissions bound what the page can do; its error handler is replaced, and the caller closes it
	Namespace string     // default contract.DefaultNamespace
	Domain    string     // JetStream domain; empty: the connection's own

	Write    bool // actions are offered
	ShowRows bool // rows of results are shown

	Environment string   // such as "production": shown on every screen and in every confirmation
	Grafana     string   // URL of a dashboard; empty: no link
	Hosts       []string // names under which browsers reach the page, besides localhost and addresses
	By          string   // who acts, for audit entries
	UserHeader  string   // a proxy's header with who acts; empty: none is trusted
	NoAudit     bool     // actions are not recorded
}

// Server is the page. It reads only while a page is open.
type Server struct {
	screens
	cells    cells
	pages    templates
	token    string // in each form: only pages of this process have it
	outcomes outcomes
	streams  streams
	actions  sync.WaitGroup
	bulk     chan struct{} // one redrive of many at a time
	closing  chan struct{} // closed when the page ends
}

// screens make the pages and load their panels.
type screens struct {
	opts   Options
	source *fleet.Source
	fleet  *fleet.Fleet
	dead   *fleet.DeadLetters
	recent *fleet.Recent

	schedules *fleet.Schedules
}

// operator does what a page asks for.
type operator struct{ *Server }

// New returns a page.
func New(opts Options) (*Server, error) {
	if opts.NATS == nil {
		return nil, errors.New("ui: a connection to NATS is needed")
	}
	if opts.Namespace == "" {
		opts.Namespace = contract.DefaultNamespace
	}
	src, err := fleet.NewSource(opts.NATS, opts.Namespace, opts.Domain)
	if err != nil {
		return nil, err
	}
	pages, err := parseTemplates()
	if err != nil {
		return nil, err
	}
	return &Server{
		screens: screens{opts: opts, source: src, fleet: &fleet.Fleet{Source: src}, dead: &fleet.DeadLetters{Source: src}, recent: &fleet.Recent{Source: src}, schedules: &fleet.Schedules{Source: src}},
		pages:   pages, token: rand.Text(), bulk: make(chan struct{}, 1), closing: make(chan struct{}),
	}, nil
}

// The bounds of the page's HTTP server.
const (
	connections    = 512
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second // of an answer, the action before it included; each event of a stream has its own
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	maxFormBytes   = 64 << 10
	closeTimeout   = 5 * time.Second
)

// Serve answers requests until ctx ends, and returns when actions under way are done.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	h := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(netutil.LimitListener(listener, connections)) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(h.Shutdown(bounded), <-done)
	}
	close(s.closing)
	s.actions.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, context.DeadlineExceeded) { // tabs hold streams
		err = nil
	}
	return err
}

// Handler returns the page as a handler, with its guards.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.show(s.nowPage))
	mux.HandleFunc("GET /db/{db}", s.show(s.databasePage))
	mux.HandleFunc("GET /db/{db}/jobs", s.show(s.jobsPage))
	mux.HandleFunc("GET /db/{db}/job", s.findJob)
	mux.HandleFunc("GET /db/{db}/job/{id}", s.show(s.jobPage))
	mux.HandleFunc("GET /db/{db}/job/{id}/result.json", s.download)
	mux.HandleFunc("GET /dead", s.show(s.deadPage))
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /outcome/{id}", s.show(s.outcomePage))
	mux.HandleFunc("GET /static/{file}", static)
	o := &operator{s}
	for path, a := range o.allActions() {
		mux.HandleFunc("GET "+path, o.confirm(a))
		mux.HandleFunc("POST "+path, o.perform(a))
	}
	mux.HandleFunc("GET /", s.notFound)
	return s.guard(mux)
}

// contentPolicy allows nothing but what the page itself serves.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types page"

// guard sets the headers of every answer, and refuses requests that another site has made: under a name that is not the page's, as
// after DNS rebinding, and actions that do not come from the page.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !s.ownHost(r.Host) {
			http.Error(w, "This page is not reached under this name; start it with --host NAME.", http.StatusMisdirectedRequest)
			return
		}
		if embedded(r) {
			http.Error(w, "Another site may lead to this page, and not load a part of it.", http.StatusForbidden)
			return
		}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
			given := r.PostFormValue("token")
			if subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1 {
				http.Error(w, "The form is not of this page, or of an earlier run of it. Load the page again.", http.StatusForbidden)
				return
			}
		}
		cross.ServeHTTP(w, r)
	})
}

// embedded reports whether another site loads something of this page, such as an image or a stream: it could not read the answer, but make
// the page work.
func embedded(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// ownHost reports whether a request names this page: an address cannot be rebound, a name can.
func (s *Server) ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, own := range s.opts.Hosts {
		if strings.EqualFold(own, host) {
			return true
		}
	}
	return false
}
