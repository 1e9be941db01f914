package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

const (
	markerKept    = 24 * time.Hour  // delete markers are purged then
	degradedUsed  = 0.8             // share of the bucket's size from which health is degraded and history is purged
	failingAfter  = 5 * time.Second // so long a bucket may be unreadable, as while its stream elects a leader, until that is reported
	percentOfFull = 100
)

// used is the used share of the bucket's size.
func used(info *jetstream.StreamInfo) float64 {
	if info.Config.MaxBytes <= 0 {
		return 0
	}
	return float64(info.State.Bytes) / float64(info.Config.MaxBytes)
}

// judge takes over what is wrong with the bucket, and logs what is new.
func (p *Pauses) judge(info *jetstream.StreamInfo, err error) {
	text := ""
	bucket := "the bucket " + p.conn.Subjects().StateBucket()
	if err == nil {
		p.failing = time.Time{}
	} else if p.failing.IsZero() {
		p.failing = time.Now()
	}
	switch {
	case errors.Is(err, errNoLink):
		return // nothing is known
	case errors.Is(err, bus.ErrNotFound):
		text = bucket + " is missing, so that no database can be paused; runner topology apply creates it"
		if len(p.entries) > 0 {
			text = bucket + " is missing; the pauses that this runner has read stay in force, and runner topology apply creates the bucket"
		}
	case errors.Is(err, bus.ErrDenied):
		text = "NATS does not permit this runner to read " + bucket + ", so that it obeys no pauses; grant the permissions (docs/security.md)"
		if !p.created.IsZero() {
			text = "NATS does not permit this runner to read " + bucket + " any more; the pauses that it has read stay in force; grant the permissions (docs/security.md)"
		}
	case err != nil && time.Since(p.failing) < failingAfter:
		return
	case err != nil:
		text = bucket + " cannot be read; the pauses that this runner has read stay in force: " + bus.ErrorText(err)
	case used(info) > degradedUsed:
		text = fmt.Sprintf("%s is %.0f percent full; raise topology.state.max_bytes and run runner topology apply", bucket, used(info)*percentOfFull)
	case !p.recreated.IsZero() && time.Since(p.recreated) < recreatedFor:
		text = bucket + " was recreated at " + p.recreated.UTC().Format(time.RFC3339) + "; the runners have put back the pauses that they knew"
	}
	p.state.Lock()
	before := p.about
	p.about = text
	p.state.Unlock()
	switch {
	case text != "" && text != before:
		p.conn.Log().Warn("pauses impaired", zap.String("problem", text))
	case text == "" && before != "":
		p.conn.Log().Info("pauses work again")
	}
}

// sweep purges what the bucket needs no more: delete markers after a day, and the history of pauses where room is short. Each
// runner does it, which is as good as one of them. What fails is done at the next time.
func (p *Pauses) sweep(ctx context.Context, info *jetstream.StreamInfo) {
	for key, e := range p.entries {
		if e.ended && p.opts.Age(info.TimeStamp, e.stored) > markerKept {
			request := map[string]any{"filter": bus.StateKey(p.conn.Subjects(), key), "seq": e.sequence + 1}
			p.swept(p.conn.API(ctx, "STREAM.PURGE."+info.Config.Name, request, nil))
		}
	}
	if used(info) > degradedUsed {
		p.swept(purgeHistory(ctx, p.conn))
	}
}

func (p *Pauses) swept(err error) {
	if err != nil {
		p.conn.Log().Debug("bucket of pauses not swept", zap.Error(err))
	}
}

// purgeHistory removes all entries of pauses but the last of each key.
func purgeHistory(ctx context.Context, c *bus.Conn) error {
	stream := bus.StateStream(c.Subjects())
	var info jetstream.StreamInfo
	request := map[string]string{"subjects_filter": bus.StateKey(c.Subjects(), "pause.>")}
	if err := c.API(ctx, "STREAM.INFO."+stream, request, &info); err != nil {
		return err
	}
	for subject, n := range info.State.Subjects {
		if n > 1 {
			if err := c.API(ctx, "STREAM.PURGE."+stream, map[string]any{"filter": subject, "keep": 1}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// printable leaves out what does not show in a text of others.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, text)
}
