package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/client"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/format"
)

const (
	panelTimeout = 2 * time.Second         // a panel that takes longer fails alone
	panelFresh   = 1500 * time.Millisecond // what was loaded is used by all tabs for this long
	cellsKept    = time.Minute             // what no tab asks for is dropped
	cellsMost    = 1000                    // addresses may ask for any number of them
)

// page is what one address shows.
type page struct {
	Title    string
	Heading  string
	Database string // that it is about; empty: none
	Screen   string // whose link in the navigation is current
	Panels   []panel
	Static   bool // no stream: a form, or an outcome
}

// panel is a part of a page that is loaded, and fails, alone.
type panel struct {
	ID    string
	Title string // empty: without a heading
	Key   string // of what was loaded, shared by all pages
	Block string // the template
	Load  func(context.Context) (any, error)
	Local bool // it needs no NATS
}

// loaded is what a panel shows.
type loaded struct {
	View any
	Err  error
	At   time.Time
}

// cell is what was loaded last for a key.
type cell struct {
	mu   sync.Mutex
	last *loaded
	good *loaded // the last one without an error, to be shown while NATS cannot be reached
	used time.Time
}

// cells are shared by all tabs, so that their number does not matter to NATS.
type cells struct {
	mu  sync.Mutex
	all map[string]*cell
}

func (c *cells) get(key string) *cell {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.all == nil {
		c.all = map[string]*cell{}
	}
	oldest := ""
	for k, old := range c.all {
		if now.Sub(old.used) > cellsKept {
			delete(c.all, k)
		} else if oldest == "" || old.used.Before(c.all[oldest].used) {
			oldest = k
		}
	}
	found := c.all[key]
	if found == nil {
		if len(c.all) >= cellsMost {
			delete(c.all, oldest)
		}
		found = &cell{}
		c.all[key] = found
	}
	found.used = now
	return found
}

// clear drops everything: an action has changed what is there.
func (c *cells) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.all)
}

// load loads a panel, within its time, or takes what another tab has just loaded.
func (s *Server) load(ctx context.Context, p *panel) *loaded {
	c := s.cells.get(p.Key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && time.Since(c.last.At) < panelFresh {
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), panelTimeout) // another tab may wait for it, too
	defer cancel()
	view, err := p.Load(ctx)
	if up, _ := s.source.Connected(); !up && !p.Local {
		err = fleet.ErrLost
	}
	if errors.Is(err, fleet.ErrLost) && c.good != nil {
		return c.good // gray, and as of then
	}
	c.last = &loaded{View: view, Err: err, At: time.Now()}
	if err == nil {
		c.good = c.last
	}
	return c.last
}

// problem explains to a person why a panel shows nothing.
func problem(err error) string {
	var denied *fleet.DeniedError
	switch {
	case errors.As(err, &denied):
		return denied.Error() + "."
	case errors.Is(err, client.ErrDenied):
		return "This user may not read this: " + format.Shown(err.Error()) + "."
	case errors.Is(err, fleet.ErrLost):
		return "The connection to NATS is lost, and nothing was read before."
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "No answer within 2 s."
	}
	return format.Shown(format.Clip(err.Error(), format.Error)) + "."
}

// render writes a panel's content.
func (s *Server) render(w *bytes.Buffer, e *env, p *panel, l *loaded) {
	block, data := p.Block, panelData{env: e, View: l.View}
	if l.Err != nil {
		block, data.Problem = "problem", problem(l.Err)
	}
	if err := s.pages.all.ExecuteTemplate(w, block, data); err != nil {
		w.Reset()
		_, _ = fmt.Fprintf(w, "<p class=bad>This panel could not be shown.</p>") // a defect: the test of all screens finds it
	}
}

// show answers with a page: its panels are loaded at the same time.
func (s *Server) show(find func(*http.Request) *page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := find(r)
		if p == nil {
			s.notFound(w, r)
			return
		}
		s.write(r.Context(), w, r, p, http.StatusOK)
	}
}

func (s *Server) write(ctx context.Context, w http.ResponseWriter, r *http.Request, p *page, status int) {
	found := make([]*loaded, len(p.Panels))
	var group sync.WaitGroup
	for i := range p.Panels {
		group.Go(func() { found[i] = s.load(ctx, &p.Panels[i]) })
	}
	group.Wait()
	e := s.env(r, false)
	data := pageData{env: e, Page: p, Path: r.URL.RequestURI()}
	for i := range p.Panels {
		var body bytes.Buffer
		s.render(&body, e, &p.Panels[i], found[i])
		data.Parts = append(data.Parts, part{ID: p.Panels[i].ID, Title: p.Panels[i].Title, Body: safe(body.String())})
	}
	var out bytes.Buffer
	if err := s.pages.all.ExecuteTemplate(&out, "page", data); err != nil {
		http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // fails only if the browser has gone
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	s.write(r.Context(), w, r, &page{
		Title: "Not found", Heading: "Not found", Static: true, Panels: []panel{{
			ID: "missing", Key: "missing", Block: "missing", Local: true, Load: func(context.Context) (any, error) { return nil, nil },
		}},
	}, http.StatusNotFound)
}
