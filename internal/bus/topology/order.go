package topology

import (
	"context"
	"errors"
	"slices"
	"strings"

	"dbrunner/internal/bus"
)

// stopRunners is why a stream with an ordered queue stays as it is: acknowledgments go by sequence, and a late one could remove a message of
// the stream that takes its place.
const stopRunners = "a database with an ordered queue whose runners are up; stop them first: "

// keepsOrder refuses to remove the jobs stream of an ordered queue while runners of its database are up.
func (p *pruner) keepsOrder(ctx context.Context, stream string) ([]Change, error) {
	consumers, err := consumersOf(ctx, p.conn, stream)
	if err != nil {
		return nil, err
	}
	for _, c := range consumers {
		if c.Config.Metadata[bus.MetaOrdered] == "" {
			continue
		}
		runners, err := p.runnersOf(ctx, stream)
		if err != nil || len(runners) == 0 {
			return nil, err
		}
		return []Change{{Resource: streamResource(stream), What: "kept: it belongs to " + stopRunners + strings.Join(runners, ", ")}}, nil
	}
	return nil, nil
}

// recreates refuses to create the missing jobs stream of an ordered queue while runners of its database are up.
func recreates(ctx context.Context, c *bus.Conn, w *wanted, s *stream) ([]Change, error) {
	if !slices.ContainsFunc(w.consumers, func(o consumer) bool {
		return o.stream == s.config.Name && o.config.Metadata[bus.MetaOrdered] != ""
	}) {
		return nil, nil
	}
	if _, err := bus.StreamInfo(ctx, c, s.config.Name); !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	runners, err := (&pruner{conn: c}).runnersOf(ctx, s.config.Name)
	if err != nil || len(runners) == 0 {
		return nil, err
	}
	return []Change{{Resource: streamResource(s.config.Name), What: "not created: it is missing for " + stopRunners + strings.Join(runners, ", ")}}, nil
}
