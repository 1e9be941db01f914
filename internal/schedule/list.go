package schedule

import (
	"context"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/bus/schedules"
)

// Listed is a schedule as the buckets have it.
type Listed struct {
	Key    string
	Record Record
	State  State
	Pause  *contract.Pause // nil: it is not paused
}

// List reads all schedules, in the order of their keys, also those of which only a state or a delete marker is left.
func List(ctx context.Context, records, states, pauses Bucket) ([]Listed, error) {
	found := map[string]*Listed{}
	at := func(key string) *Listed {
		if found[key] == nil {
			found[key] = &Listed{Key: key}
		}
		return found[key]
	}
	news, err := records.Read(ctx)
	if err != nil {
		return nil, err
	}
	for i := range news.Entries {
		at(news.Entries[i].Key).Record.Take(&news.Entries[i])
	}
	if news, err = states.Read(ctx); err != nil {
		return nil, err
	}
	for i := range news.Entries {
		if key, ok := contract.ScheduleOfState(news.Entries[i].Key); ok {
			at(key).State = stateOf(&news.Entries[i])
		}
	}
	if news, err = pauses.Read(ctx); err != nil {
		return nil, err
	}
	for i := range news.Entries {
		takePause(at, &news.Entries[i])
	}
	out := make([]Listed, 0, len(found))
	for _, l := range found {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b Listed) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

func takePause(at func(string) *Listed, e *schedules.Entry) {
	target, ok := contract.ParsePauseKey(e.Key)
	if !ok || target.Schedule == "" {
		return
	}
	l := at(target.Schedule)
	l.Pause = nil
	if e.Deleted {
		return
	}
	record, _ := contract.ReadPause(e.Value) // one that cannot be read pauses as well
	l.Pause = &record
}
