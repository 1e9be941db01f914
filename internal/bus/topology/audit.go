package topology

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// AuditLimits bound the entries about actions of operators, of all databases together. What is above is refused.
type AuditLimits struct {
	MaxAge   time.Duration // an entry is kept this long, default a year
	MaxBytes int64         // default 64 MiB
}

// auditMaxMessage is the largest entry: a hundred targets and a few texts of bounded lengths.
const auditMaxMessage = 256 << 10

// audit keeps what operators did. It takes no roll-up, no deletion and no purge, and refuses what is above its size: who may
// write an entry can flush none.
func (b *builder) audit() stream {
	s := b.stream(b.subjects.AuditStream(), "actions of operators")
	s.Subjects = []string{b.subjects.Namespace + ".audit.>"}
	s.Discard, s.MaxMsgSize = jetstream.DiscardNew, auditMaxMessage
	s.MaxAge, s.MaxBytes = b.topology.Audit.MaxAge, b.topology.Audit.MaxBytes
	s.Duplicates = min(s.Duplicates, s.MaxAge)
	s.DenyDelete, s.DenyPurge, s.AllowDirect = true, true, true
	return stream{config: s, missingBefore: true, fills: true}
}

// ApplyAudit is Apply for the stream of audit entries alone, so that what Apply does then can be recorded there.
func ApplyAudit(ctx context.Context, c *bus.Conn, t Topology) ([]Change, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(w.streams, func(s stream) bool { return s.config.Name == c.Subjects().AuditStream() })
	return applyStream(ctx, c, &w.streams[i], ApplyOptions{})
}

// fullPercent is the used share of a stream that fills from which that is reported.
const fullPercent = 80

// filled reports a stream that is filling. Its text stays the same while it fills further.
func (s *stream) filled(info *jetstream.StreamInfo) []Difference {
	if limit := info.Config.MaxBytes; !s.fills || limit <= 0 || info.State.Bytes < uint64(limit)/100*fullPercent {
		return nil
	}
	have := fmt.Sprintf("more than %d percent", fullPercent)
	return []Difference{{Resource: streamResource(info.Config.Name), Setting: settingUsed, Have: have}}
}
