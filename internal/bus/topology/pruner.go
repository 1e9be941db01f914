package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// pruner removes what a topology does not name, or reports what it would remove.
type pruner struct {
	conn  *bus.Conn
	force bool
	plan  bool

	runners map[string][]string // by database; nil before the heartbeats were read
}

func (p *pruner) stream(ctx context.Context, w *wanted, info *jetstream.StreamInfo) ([]Change, error) {
	name := info.Config.Name
	if w.hasStream(name) {
		return p.consumers(ctx, w, info)
	}
	if change, err := p.keepsOrder(ctx, name); err != nil || change != nil {
		return change, err
	}
	uses, err := p.usesOfStream(ctx, info)
	if err != nil {
		return nil, err
	}
	return p.remove(ctx, streamResource(name), "STREAM.DELETE."+name, uses)
}

// remove deletes one stream or consumer unless it is in use.
func (p *pruner) remove(ctx context.Context, resource, call string, uses []string) ([]Change, error) {
	switch {
	case len(uses) > 0 && !p.force:
		return []Change{{Resource: resource, What: "kept: " + strings.Join(uses, ", ") + " (--force removes it, and what it holds)"}}, nil
	case p.plan && len(uses) > 0:
		return []Change{{Resource: resource, What: "would be removed: " + strings.Join(uses, ", "), Done: true}}, nil
	case p.plan:
		return []Change{{Resource: resource, What: "would be removed: no messages, not in use", Done: true}}, nil
	}
	if err := p.conn.APIRetry(ctx, call, nil, nil); err != nil {
		return nil, fmt.Errorf("delete %s: %w", resource, err)
	}
	return []Change{{Resource: resource, What: "removed", Done: true}}, nil
}

// usesOfStream lists what speaks against removing a stream.
func (p *pruner) usesOfStream(ctx context.Context, info *jetstream.StreamInfo) ([]string, error) {
	var uses []string
	if n := info.State.Msgs; n > 0 {
		uses = append(uses, fmt.Sprintf("it holds %d messages", n))
	}
	consumers, err := consumersOf(ctx, p.conn, info.Config.Name)
	if err != nil {
		return nil, err
	}
	held, waiting := 0, 0
	for _, c := range consumers {
		held, waiting = held+c.NumAckPending, waiting+c.NumWaiting
	}
	if held > 0 {
		uses = append(uses, fmt.Sprintf("runners hold %d of its messages", held))
	}
	if waiting > 0 {
		uses = append(uses, fmt.Sprintf("%d requests wait for its messages", waiting))
	}
	runners, err := p.runnersOf(ctx, info.Config.Name)
	if err != nil {
		return nil, err
	}
	if len(runners) > 0 {
		uses = append(uses, "served by "+strings.Join(runners, ", "))
	}
	return uses, nil
}

// consumers removes the consumers of a wanted stream that the topology does not name.
func (p *pruner) consumers(ctx context.Context, w *wanted, of *jetstream.StreamInfo) ([]Change, error) {
	stream := of.Config.Name
	infos, err := consumersOf(ctx, p.conn, stream)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, info := range infos {
		if w.hasConsumer(stream, info.Name) || !carriesMark(p.conn, info.Config.Metadata) {
			continue
		}
		resource := "consumer " + stream + "/" + info.Name
		stranded, err := p.stranded(ctx, stream, info)
		if err != nil {
			return changes, err
		}
		if stranded > 0 {
			changes = append(changes, Change{Resource: resource, What: fmt.Sprintf("kept: %d jobs wait for it, which no other consumer "+
				"would deliver; let the runners finish them, or purge them (nats stream purge --subject)", stranded)})
			continue
		}
		if taken := bus.Overlapping(of.Config.Subjects, bus.Filters(&info.Config)...); taken != "" && of.Config.Retention == jetstream.WorkQueuePolicy {
			changes = append(changes, Change{Resource: resource, What: "kept: the stream takes jobs on " + taken + ", which no other consumer " +
				"would deliver; run runner topology apply --remove first"})
			continue
		}
		more, err := p.remove(ctx, resource, "CONSUMER.DELETE."+stream+"."+info.Name, nil) // requests that wait get nothing any more
		if err != nil {
			return changes, err
		}
		changes = append(changes, more...)
	}
	return changes, nil
}

// stranded is the number of messages of a work queue that a consumer alone would deliver: those that wait, those that runners hold
// and those that it has left behind.
func (p *pruner) stranded(ctx context.Context, stream string, info *jetstream.ConsumerInfo) (uint64, error) {
	var stored uint64
	for _, filter := range bus.Filters(&info.Config) {
		counts, err := subjectCounts(ctx, p.conn, stream, filter)
		if err != nil {
			return 0, err
		}
		for _, count := range counts {
			stored += count
		}
	}
	return max(stored, info.NumPending+uint64(max(info.NumAckPending, 0))), nil
}

// runnersOf names the runners whose last heartbeat reports that they serve the database of a stream and have not stopped.
func (p *pruner) runnersOf(ctx context.Context, stream string) ([]string, error) {
	if p.runners == nil {
		if err := p.readHeartbeats(ctx); err != nil {
			return nil, fmt.Errorf("read the heartbeats, which list what is in use: %w", err)
		}
	}
	s := p.conn.Subjects()
	for _, prefix := range []string{s.JobsStream(""), s.ResultsStream("")} {
		if database, ok := strings.CutPrefix(stream, prefix); ok {
			return p.runners[database], nil
		}
	}
	return nil, nil
}

func (p *pruner) readHeartbeats(ctx context.Context) error {
	p.runners = make(map[string][]string)
	filter := p.conn.Subjects().RunnerHealth("*")
	for next := uint64(1); ; {
		m, err := bus.GetMessage(ctx, p.conn, p.conn.Subjects().HealthStream(), bus.GetRequest{Sequence: next, NextFor: filter})
		if errors.Is(err, bus.ErrNotFound) || err == nil && m == nil {
			return nil
		}
		if err != nil {
			return err
		}
		next = m.Sequence + 1
		var beat struct {
			Instance  string `json:"instance"`
			State     string `json:"state"`
			Databases []struct {
				Name string `json:"name"`
			} `json:"databases"`
		}
		if json.Unmarshal(m.Data, &beat) != nil || beat.State == "stopped" {
			continue
		}
		for _, d := range beat.Databases {
			if runner := "runner " + beat.Instance; !slices.Contains(p.runners[d.Name], runner) {
				p.runners[d.Name] = append(p.runners[d.Name], runner)
			}
		}
	}
}
