package ui

import (
	"context"
	"hash/maphash"
	"net/http"
	"net/http/httptest"
)

// Stale lets the next look read everything that has changed, as if time had passed.
func (s *Server) Stale() {
	s.cells.clear()
	s.fleet.Forget()
	s.dead.Forget()
}

// Tab opens the stream of a page. The function sends an update, and returns how many bytes it had.
func (s *Server) Tab(path string) func(context.Context) int {
	out := httptest.NewRecorder()
	t := &tab{server: s, page: s.pageOf(path), w: out, out: http.NewResponseController(out), seed: maphash.MakeSeed(), sent: map[string]uint64{}}
	return func(ctx context.Context) int {
		out.Body.Reset()
		t.update(ctx, httptest.NewRequest(http.MethodGet, path, nil))
		return out.Body.Len()
	}
}

// LoadOld loads a panel whose content is too old to be used again.
func (s *Server) LoadOld(key string, load func(context.Context) (any, error)) (any, error) {
	c := s.cells.get(key)
	c.last = nil
	l := s.load(context.Background(), &panel{Key: key, Load: load, Local: true})
	return l.View, l.Err
}
