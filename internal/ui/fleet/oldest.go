package fleet

import (
	"context"
	"time"
)

// OldestPending is when the oldest job was stored that no runner has yet, over all lanes of a database.
func (s *Source) OldestPending(ctx context.Context, d *DatabaseSummary) (*time.Time, error) {
	var oldest *time.Time
	for i := range d.Lanes {
		if d.Lanes[i].Pending == 0 {
			continue
		}
		lane, err := s.Lane(ctx, d.Name, d.Lanes[i].Name)
		if err != nil {
			return nil, err
		}
		if at := lane.Oldest; at != nil && (oldest == nil || at.Before(*oldest)) {
			oldest = at
		}
	}
	return oldest, nil
}

// LaneState is a lane as its consumer has it.
type LaneState struct {
	Oldest     *time.Time // when the first message was stored that it has not delivered; nil: there is none
	FleetSlots int        // jobs that all runners together may have in flight
}

// Lane asks for the consumer of a lane.
func (s *Source) Lane(ctx context.Context, database, lane string) (*LaneState, error) {
	stream := s.Subjects.JobsStream(database)
	var info struct {
		Pending   uint64 `json:"num_pending"`
		Delivered struct {
			Sequence uint64 `json:"stream_seq"`
		} `json:"delivered"`
		Config struct {
			Filter        string   `json:"filter_subject"`
			Filters       []string `json:"filter_subjects"`
			MaxAckPending int      `json:"max_ack_pending"`
		} `json:"config"`
	}
	if err := s.Ask(ctx, "CONSUMER.INFO."+stream+"."+lane, stream, struct{}{}, &info); err != nil {
		return nil, err
	}
	out := &LaneState{FleetSlots: info.Config.MaxAckPending}
	filters := info.Config.Filters
	if info.Config.Filter != "" {
		filters = append(filters, info.Config.Filter)
	}
	if info.Pending == 0 {
		filters = nil
	}
	for _, filter := range filters {
		var found struct {
			Message struct {
				Time time.Time `json:"time"`
			} `json:"message"`
		}
		request := map[string]any{"seq": info.Delivered.Sequence + 1, "next_by_subj": filter}
		err := s.Ask(ctx, "STREAM.MSG.GET."+stream, stream, request, &found)
		if IsMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if out.Oldest == nil || found.Message.Time.Before(*out.Oldest) {
			out.Oldest = &found.Message.Time
		}
	}
	return out, nil
}
