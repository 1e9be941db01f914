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
		at, err := s.OldestOf(ctx, d.Name, d.Lanes[i].Name)
		if err != nil {
			return nil, err
		}
		if at != nil && (oldest == nil || at.Before(*oldest)) {
			oldest = at
		}
	}
	return oldest, nil
}

// OldestOf is the time of the first message that a lane's consumer has not delivered.
func (s *Source) OldestOf(ctx context.Context, database, lane string) (*time.Time, error) {
	stream := s.Subjects.JobsStream(database)
	var info struct {
		Pending   uint64 `json:"num_pending"`
		Delivered struct {
			Sequence uint64 `json:"stream_seq"`
		} `json:"delivered"`
		Config struct {
			Filter  string   `json:"filter_subject"`
			Filters []string `json:"filter_subjects"`
		} `json:"config"`
	}
	if err := s.Ask(ctx, "CONSUMER.INFO."+stream+"."+lane, stream, struct{}{}, &info); err != nil {
		return nil, err
	}
	var oldest *time.Time
	filters := info.Config.Filters
	if info.Config.Filter != "" {
		filters = append(filters, info.Config.Filter)
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
		if oldest == nil || found.Message.Time.Before(*oldest) {
			at := found.Message.Time
			oldest = &at
		}
	}
	return oldest, nil
}
