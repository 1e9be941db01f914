package results

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// Above highMark of its count or bytes a results stream is purged down to lowMark, in percent.
const (
	highMark = 80
	lowMark  = 70
)

// RunRetention keeps room for new results until the context ends: every period it looks, and above 80 % of the
// count or the bytes it purges the oldest results beyond minAge. Any number of runners may do so concurrently: a
// purge names a sequence, so a second one of the same removes nothing more.
func (r *Results) RunRetention(ctx context.Context, every, minAge time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if _, err := r.Purge(ctx, minAge); err != nil && ctx.Err() == nil {
			r.conn.Log().Warn("results not purged", zap.String("stream", r.stream), zap.Error(err))
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Purge looks once and returns how many results it removed. It never removes one younger than minAge, by the
// server's clock, which also stamped the results.
func (r *Results) Purge(ctx context.Context, minAge time.Duration) (uint64, error) {
	info, err := bus.StreamInfo(ctx, r.conn, r.stream)
	if err != nil {
		return 0, err
	}
	r.room.Store(roomOf(info))
	excess := tooMany(info)
	if excess == 0 {
		return 0, nil
	}
	first := info.State.FirstSeq
	last := min(first+excess-1, info.State.LastSeq)
	end, err := r.oldEnough(ctx, first, last, info.TimeStamp.Add(-minAge))
	if err != nil || end == first {
		return 0, err
	}
	purged, err := r.purgeBefore(ctx, end)
	if err != nil {
		return 0, err
	}
	if purged > 0 {
		r.purged.Add(purged)
		r.conn.Log().Warn("results stream nearly full; purged the oldest results",
			zap.String("stream", r.stream), zap.Uint64("purged", purged), zap.Duration("min_age", minAge))
	}
	return purged, nil
}

// tooMany is how many of the oldest messages have to go to come down to the low mark, 0 below the high mark.
func tooMany(info *jetstream.StreamInfo) uint64 {
	s, c := info.State, info.Config
	var n uint64
	if limit := uint64(max(c.MaxMsgs, 0)); limit > 0 && s.Msgs*100 > limit*highMark {
		n = s.Msgs - limit*lowMark/100
	}
	if limit := uint64(max(c.MaxBytes, 0)); limit > 0 && s.Bytes*100 > limit*highMark && s.Msgs > 0 {
		each := max(s.Bytes/s.Msgs, 1)
		n = max(n, (s.Bytes-limit*lowMark/100)/each)
	}
	return min(n, s.Msgs)
}

// oldEnough finds the first sequence in [first, last+1] whose message was stored at or after the cutoff.
func (r *Results) oldEnough(ctx context.Context, first, last uint64, cutoff time.Time) (uint64, error) {
	low, high := first, last+1
	for probe := last; low < high; probe = low + (high-low)/2 {
		old, err := r.storedBefore(ctx, probe, cutoff)
		if err != nil {
			return first, err
		}
		if old {
			low = probe + 1
		} else {
			high = probe
		}
	}
	return low, nil
}

// storedBefore reports whether the message at a sequence, or the next one behind a gap, is older than the cutoff.
// Where none is left nothing young can be hit: everything up to here has gone by itself.
func (r *Results) storedBefore(ctx context.Context, sequence uint64, cutoff time.Time) (bool, error) {
	m, err := bus.GetMessage(ctx, r.conn, r.stream, bus.GetRequest{Sequence: sequence, NextFor: ">"})
	if err != nil {
		return false, fmt.Errorf("read the age of a result: %w", err)
	}
	return m != nil && m.Time.Before(cutoff), nil
}

// purgeBefore removes all messages below a sequence.
func (r *Results) purgeBefore(ctx context.Context, sequence uint64) (uint64, error) {
	var answer struct {
		Purged uint64 `json:"purged"`
	}
	request := map[string]uint64{"seq": sequence}
	if err := r.conn.APIRetry(ctx, "STREAM.PURGE."+r.stream, request, &answer); err != nil {
		return 0, fmt.Errorf("purge %s: %w", r.stream, err)
	}
	return answer.Purged, nil
}
