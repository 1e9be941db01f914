package ui

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	streamEvery  = 2 * time.Second // how often a tab's panels are looked at
	streamClock  = 5 * time.Second // how often a tab gets the time, so that it knows that the page lives
	streamWrite  = 10 * time.Second
	perBrowser   = 4    // streams that a browser may hold: it allows six connections to a host, and needs some for pages
	allStreams   = 128  // that are held for all browsers
	retryHeld    = 1000 // ms until a tab connects again
	retryPolling = 3000 // ms, of a tab that gets what there is and no stream
	cookieName   = "dbrunner_tabs"
)

// streams counts the open streams of each browser.
type streams struct {
	mu    sync.Mutex
	open  map[string]int
	total int
}

// enter reports whether a browser may hold another stream; leave ends it.
func (c *streams) enter(browser string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]int{}
	}
	if c.open[browser] >= perBrowser || c.total >= allStreams {
		return false
	}
	c.total++
	c.open[browser]++
	return true
}

func (c *streams) leave(browser string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.open[browser]--; c.open[browser] <= 0 {
		delete(c.open, browser)
	}
}

// browserOf names a browser by a cookie that means nothing else. The page sets it, not the stream.
func browserOf(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(cookieName); err == nil && len(c.Value) <= 64 {
		return c.Value
	}
	name := rand.Text()
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	return name
}

// tab is the stream of one tab.
type tab struct {
	server *Server
	page   *page
	w      http.ResponseWriter
	out    *http.ResponseController
	seed   maphash.Seed
	sent   map[string]uint64 // by panel: the hash of what the tab has
	status string
	clock  time.Time
}

// events streams the panels of a page whose content has changed. It ends with the tab. A browser with many tabs gets short
// streams instead, which it asks for again.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	p := s.pageOf(r.FormValue("page"))
	if p == nil || p.Static {
		http.NotFound(w, r)
		return
	}
	browser := browserOf(w, r)
	held := s.streams.enter(browser)
	retry := retryPolling
	if held {
		defer s.streams.leave(browser)
		retry = retryHeld
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	t := &tab{server: s, page: p, w: w, out: http.NewResponseController(w), seed: maphash.MakeSeed(), sent: map[string]uint64{}}
	if !t.write(fmt.Sprintf("retry: %d\n\n", retry)) || !t.update(r.Context(), r) || !held {
		return
	}
	ticker := time.NewTicker(streamEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if !t.update(r.Context(), r) {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}

// update sends what has changed, and reports whether the tab is still there.
func (t *tab) update(ctx context.Context, r *http.Request) bool {
	e := t.server.env(r, true)
	status := fmt.Sprint(e.Connected, e.Lost.Unix())
	if status != t.status || time.Since(t.clock) >= streamClock {
		t.status, t.clock = status, time.Now()
		lost := ""
		if !e.Connected {
			lost = e.Lost.UTC().Format("15:04:05")
		}
		if !t.send("status", map[string]any{"now": e.Now.UnixMilli(), "lost": lost}) {
			return false
		}
	}
	found := make([]*loaded, len(t.page.Panels))
	var group sync.WaitGroup
	for i := range t.page.Panels {
		group.Go(func() { found[i] = t.server.load(ctx, &t.page.Panels[i]) })
	}
	group.Wait()
	for i := range t.page.Panels {
		var body bytes.Buffer
		p := &t.page.Panels[i]
		t.server.render(&body, e, p, found[i])
		if sum := maphash.Bytes(t.seed, body.Bytes()); t.sent[p.ID] != sum {
			t.sent[p.ID] = sum
			if !t.send("panel", map[string]any{"id": p.ID, "html": body.String(), "now": e.Now.UnixMilli()}) {
				return false
			}
		}
	}
	return true
}

func (t *tab) send(event string, value any) bool {
	text, err := json.Marshal(value)
	return err == nil && t.write("event: "+event+"\ndata: "+string(text)+"\n\n")
}

// write writes to the tab, which has to take it in time.
func (t *tab) write(text string) bool {
	_ = t.out.SetWriteDeadline(time.Now().Add(streamWrite)) // not every writer has one
	_, err := t.w.Write([]byte(text))
	return err == nil && t.out.Flush() == nil
}

// pageOf returns the page of an address of ours; nil: there is none.
func (s *Server) pageOf(address string) *page {
	u, err := url.Parse(address)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return nil
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Form: u.Query()}
	var found *page
	mux := http.NewServeMux()
	for pattern, make := range map[string]func(*http.Request) *page{
		"GET /{$}": s.nowPage, "GET /db/{db}": s.databasePage, "GET /db/{db}/jobs": s.jobsPage, "GET /db/{db}/job/{id}": s.jobPage,
		"GET /dead": s.deadPage, "GET /outcome/{id}": s.outcomePage,
	} {
		mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) { found = make(r) })
	}
	mux.ServeHTTP(nowhere{}, r)
	return found
}

// nowhere is a writer of an answer that is not sent: only the page that the address stands for is wanted.
type nowhere struct{}

// Header returns headers that are not kept.
func (nowhere) Header() http.Header { return http.Header{} }

// Write keeps nothing.
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader keeps nothing.
func (nowhere) WriteHeader(int) {}
