package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dbrunner/contract"
)

// abandonedAsked bounds how many databases without a runner are asked for their jobs.
const abandonedAsked = 20

// findAbandoned returns the databases that have a stream of jobs and no runner. Heartbeats expire after a minute: without the streams, nothing would
// show a database whose runners are all gone.
func (f *Fleet) findAbandoned(ctx context.Context) ([]*DatabaseSummary, error) {
	streams, err := f.Source.streamsOf(ctx, f.Source.Subjects.Namespace+".jobs.>")
	if err != nil {
		return nil, err
	}
	var out []*DatabaseSummary
	for _, stream := range streams {
		name, ok := strings.CutPrefix(stream, f.Source.Subjects.JobsStream(""))
		runs := false
		for _, seen := range f.Databases[name] {
			runs = runs || seen.RunnerState != contract.RunnerStopped
		}
		if !ok || !contract.ValidName(name) || runs {
			continue
		}
		d := &DatabaseSummary{Name: name, Abandoned: true}
		if len(out) < abandonedAsked {
			info, err := f.Source.Info(ctx, stream, struct{}{})
			switch {
			case IsMissing(err):
				continue // it has just been removed
			case err != nil:
				return nil, err
			}
			if d.Pending = info.State.Messages; d.Pending > 0 {
				d.Oldest = &info.State.FirstTime
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// streamsOf are the names of the streams that have subjects under a filter.
func (s *Source) streamsOf(ctx context.Context, filter string) (names []string, err error) {
	for {
		var page struct {
			Total   int      `json:"total"`
			Streams []string `json:"streams"`
		}
		request := map[string]any{"subject": filter, "offset": len(names)}
		if err := s.Ask(ctx, "STREAM.NAMES", "the names of streams", request, &page); err != nil {
			return nil, fmt.Errorf("read the names of streams: %w", err)
		}
		names = append(names, page.Streams...)
		if len(page.Streams) == 0 || len(names) >= page.Total {
			slices.Sort(names)
			return names, nil
		}
	}
}
