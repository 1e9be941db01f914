package objects

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"dbrunner/internal/bus"
)

// Sweep finds what has to leave a bucket before its age. It is for one goroutine.
type Sweep struct {
	bucket *Bucket
	known  map[string]*Object // by their encoded names; an object is never written again under its name
	now    time.Time          // the server's, at the last listing
}

// Sweep starts to look through the bucket.
func (b *Bucket) Sweep() *Sweep {
	return &Sweep{bucket: b, known: make(map[string]*Object)}
}

// Objects lists the complete objects: at most the 100,000 that the server lists. What was listed before costs nothing.
func (s *Sweep) Objects(ctx context.Context) ([]*Object, error) {
	subjects, err := s.list(ctx, bus.MetaSubject(s.bucket.name, "*"))
	if err != nil {
		return nil, err
	}
	known := make(map[string]*Object, len(subjects))
	list := make([]*Object, 0, len(subjects))
	for subject := range subjects {
		encoded := strings.TrimPrefix(subject, bus.MetaSubject(s.bucket.name, ""))
		o, err := s.object(ctx, encoded)
		if err != nil {
			return nil, err
		}
		if o != nil {
			known[encoded] = o
			list = append(list, o)
		}
	}
	s.known = known
	return list, nil
}

// list lists subjects, and takes the server's time.
func (s *Sweep) list(ctx context.Context, filter string) (map[string]uint64, error) {
	subjects, now, err := s.bucket.subjects(ctx, filter)
	s.now = now
	return subjects, err
}

// Age is how old an object was at the last listing, by the server's clock, which also dated the object.
func (s *Sweep) Age(o *Object) time.Duration { return s.now.Sub(o.Modified) }

func (s *Sweep) object(ctx context.Context, encoded string) (*Object, error) {
	if o := s.known[encoded]; o != nil {
		return o, nil
	}
	name, err := base64.URLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, nil // of no object
	}
	o, err := s.bucket.Lookup(ctx, string(name))
	if errors.Is(err, errDescription) || errors.Is(err, bus.ErrSubject) {
		return nil, nil // neither is this one: it must not keep us from the others
	}
	return o, err
}

// Abandoned removes chunks without a description, as a writer leaves them that was killed, where the newest is older
// than age by the server's clock and the group is one of ours. It returns how many objects that were.
func (s *Sweep) Abandoned(ctx context.Context, age time.Duration, ours func(group string) bool) (int, error) {
	old, err := s.oldChunks(ctx, age, ours)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	objects, err := s.Objects(ctx) // after the chunks: what is described meanwhile is seen
	if err != nil {
		return 0, err
	}
	described := make(map[string]bool, len(objects))
	for _, o := range objects {
		described[o.mark] = true
	}
	removed := 0
	for _, mark := range old {
		if described[mark] {
			continue
		}
		if err := s.bucket.purge(ctx, bus.ChunkSubject(s.bucket.name, mark)); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// oldChunks are the marks of our chunks of which the newest is older than age.
func (s *Sweep) oldChunks(ctx context.Context, age time.Duration, ours func(group string) bool) ([]string, error) {
	subjects, err := s.list(ctx, bus.ChunkSubject(s.bucket.name, "*.*"))
	if err != nil {
		return nil, err
	}
	var old []string
	for subject := range subjects {
		mark := strings.TrimPrefix(subject, bus.ChunkSubject(s.bucket.name, ""))
		if group, _, _ := strings.Cut(mark, "."); !ours(group) {
			continue
		}
		last, err := bus.GetMessage(ctx, s.bucket.conn, s.bucket.stream, bus.GetRequest{LastFor: subject})
		if err != nil {
			return nil, err
		}
		if last != nil && s.now.Sub(last.Time) > age {
			old = append(old, mark)
		}
	}
	return old, nil
}
