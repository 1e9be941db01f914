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

// Problem is what a panel shows of an error.
func Problem(err error) string { return problem(err) }

// OpenStreams is how many streams tabs hold.
func (s *Server) OpenStreams() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return s.streams.total
}

// Cells is how many panels are kept.
func (s *Server) Cells() int {
	s.cells.mu.Lock()
	defer s.cells.mu.Unlock()
	return len(s.cells.all)
}

// WriteTimeout bounds an answer that is no stream.
const WriteTimeout = writeTimeout

// The bounds of what is kept and held.
const (
	MostCells   = cellsMost
	MostStreams = allStreams
)
