package topology

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// ConsumerView is a consumer as Show returns it.
type ConsumerView struct {
	Name         string
	Filters      []string
	Configured   bool
	Waiting      uint64 // not yet delivered
	Held         int    // delivered, not yet acknowledged
	Redelivered  int
	PullRequests int
}

// StreamView is a stream as Show returns it.
type StreamView struct {
	Name       string
	Subjects   []string
	Configured bool // the topology names it
	Messages   uint64
	Bytes      uint64
	Replicas   int
	Leader     string // empty on a single server
	Consumers  []ConsumerView
}

// Show lists the streams and consumers of our namespace, also those that the topology does not name.
func Show(ctx context.Context, c *bus.Conn, t Topology) ([]StreamView, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	infos, err := ourStreams(ctx, c)
	if err != nil {
		return nil, err
	}
	views := make([]StreamView, 0, len(infos))
	for _, info := range infos {
		view, err := viewStream(ctx, c, &w, info)
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

func viewStream(ctx context.Context, c *bus.Conn, w *wanted, info *jetstream.StreamInfo) (StreamView, error) {
	view := StreamView{
		Name: info.Config.Name, Subjects: info.Config.Subjects, Configured: w.hasStream(info.Config.Name),
		Messages: info.State.Msgs, Bytes: info.State.Bytes, Replicas: info.Config.Replicas,
	}
	if info.Cluster != nil {
		view.Leader = info.Cluster.Leader
	}
	consumers, err := consumersOf(ctx, c, info.Config.Name)
	if err != nil {
		return view, err
	}
	for _, ci := range consumers {
		view.Consumers = append(view.Consumers, ConsumerView{
			Name: ci.Name, Filters: bus.Filters(&ci.Config), Configured: w.hasConsumer(info.Config.Name, ci.Name),
			Waiting: ci.NumPending, Held: ci.NumAckPending, Redelivered: ci.NumRedelivered, PullRequests: ci.NumWaiting,
		})
	}
	return view, nil
}

func (w *wanted) hasStream(name string) bool {
	return slices.ContainsFunc(w.streams, func(s stream) bool { return s.config.Name == name })
}

func (w *wanted) hasConsumer(stream, name string) bool {
	return slices.ContainsFunc(w.consumers, func(c consumer) bool { return c.stream == stream && c.config.Name == name })
}

// Prune removes the streams and consumers of our namespace that the topology does not name. A stream in use, by messages, by requests that wait for
// them or by a runner that has not stopped, is only removed by force. A consumer with messages is not even removed by force: they would never be delivered.
func Prune(ctx context.Context, c *bus.Conn, t Topology, force bool) ([]Change, error) {
	return prune(ctx, c, t, &pruner{conn: c, force: force})
}

// PlanPrune returns what Prune would do, with what each stream and consumer holds, and does nothing.
func PlanPrune(ctx context.Context, c *bus.Conn, t Topology, force bool) ([]Change, error) {
	return prune(ctx, c, t, &pruner{conn: c, force: force, plan: true})
}

func prune(ctx context.Context, c *bus.Conn, t Topology, p *pruner) ([]Change, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	infos, err := ourStreams(ctx, c)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, info := range infos {
		more, err := p.stream(ctx, &w, info)
		if err != nil {
			return changes, err
		}
		changes = append(changes, more...)
	}
	return changes, nil
}

// page is a part of a long list of the API.
type page struct {
	Total  int `json:"total"`
	Offset int `json:"offset"`
	Limit  int `json:"limit"`
	// Missing are those that no server has reported in time: they have no leader.
	Missing []string `json:"missing"`
}

// ourStreams are the streams of our names that carry our mark.
func ourStreams(ctx context.Context, c *bus.Conn) ([]*jetstream.StreamInfo, error) {
	ours := func(name string) bool { return bus.InNamespace(c.Subjects(), name) }
	all, err := paged(ours, func(offset int) ([]*jetstream.StreamInfo, page, error) {
		var answer struct {
			page
			Streams []*jetstream.StreamInfo `json:"streams"`
		}
		err := c.APIRetry(ctx, "STREAM.LIST", map[string]int{"offset": offset}, &answer)
		return answer.Streams, answer.page, err
	})
	if err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	all = slices.DeleteFunc(all, func(info *jetstream.StreamInfo) bool {
		return !ours(info.Config.Name) || !carriesMark(c, info.Config.Metadata)
	})
	slices.SortFunc(all, func(a, b *jetstream.StreamInfo) int { return strings.Compare(a.Config.Name, b.Config.Name) })
	return all, nil
}

func consumersOf(ctx context.Context, c *bus.Conn, stream string) ([]*jetstream.ConsumerInfo, error) {
	all, err := paged(func(string) bool { return true }, func(offset int) ([]*jetstream.ConsumerInfo, page, error) {
		var answer struct {
			page
			Consumers []*jetstream.ConsumerInfo `json:"consumers"`
		}
		err := c.APIRetry(ctx, "CONSUMER.LIST."+stream, map[string]int{"offset": offset}, &answer)
		return answer.Consumers, answer.page, err
	})
	if err != nil {
		return nil, fmt.Errorf("list consumers of %s: %w", stream, err)
	}
	return all, nil
}

// paged collects the pages of a list. A cluster leaves out what has no leader, and counts it: so the next page starts where this one ended by
// its limit, not after as many entries as it had. A list without one of ours is an error: what was left out may be in use.
func paged[T any](ours func(name string) bool, next func(offset int) ([]T, page, error)) ([]T, error) {
	var all []T
	for offset := 0; ; {
		part, p, err := next(offset)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(p.Missing, ours); i >= 0 {
			return nil, fmt.Errorf("the cluster does not report %s, which has no leader now: repeat this when its servers are up", p.Missing[i])
		}
		all = append(all, part...)
		if offset += p.Limit; p.Limit <= 0 || offset >= p.Total {
			return all, nil
		}
	}
}
