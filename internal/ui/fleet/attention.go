package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
)

// Attention is one thing that a person should look at.
type Attention struct {
	Rank    int // the worst has the highest
	Name    string
	Link    string
	Word    string
	Since   *time.Time
	Why     string
	Waiting uint64 // jobs
	Dead    int    // dead letters of the last hour
}

// Attentions are what heartbeats give a reason to look at, and the number of databases.
func (f *Fleet) Attentions(now time.Time) (out []Attention, databases int) {
	all := f.Summaries(now)
	for _, d := range all {
		if item, wrong := attentionOf(d); wrong {
			out = append(out, item)
		}
	}
	return append(out, f.attentionOfRunners(now)...), len(all)
}

func attentionOf(d *DatabaseSummary) (Attention, bool) {
	rank := d.Rank()
	item := Attention{Rank: rank * 10, Name: d.Name, Link: "/db/" + d.Name, Word: d.Word(), Since: d.Since, Why: d.Why(), Waiting: d.Pending}
	switch stopped := d.Stopped(); {
	case rank == 0 && len(d.Topology) > 0:
		item.Rank, item.Word, item.Why, item.Since = 10, string(contract.Degraded), d.Topology[0].Problem+": "+d.Topology[0].Remedy, &d.Topology[0].Since
		return item, true
	case rank == 1 && stopped != nil:
		item.Rank, item.Since = 15, &stopped.Since
	}
	return item, rank > 0
}

// attentionOfRunners are runners that should have sent a heartbeat, or report a problem of their own.
func (f *Fleet) attentionOfRunners(now time.Time) []Attention {
	var out []Attention
	for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
		r := f.Runners[name]
		item := Attention{Name: name, Link: "#p-runners", Word: string(contract.Degraded)}
		switch {
		case r.Silent(now):
			item.Rank, item.Word, item.Since, item.Why = 35, "silent", &r.SeenAt, "no heartbeat; its jobs go to other runners after the ack wait"
		case len(r.Denied) > 0:
			item.Rank, item.Why = 12, "NATS refuses it "+r.Denied[0]
		case r.Shared:
			item.Rank, item.Why = 9, "two processes use this instance name"
		default:
			continue
		}
		out = append(out, item)
	}
	return out
}

// AttentionsOf are the dead letters of a list, by database, with their most frequent causes.
func AttentionsOf(list []DeadLetter) []Attention {
	counts := map[string]map[string]int{}
	last := map[string]time.Time{}
	for i := range list {
		d := &list[i]
		if counts[d.Database] == nil {
			counts[d.Database] = map[string]int{}
		}
		counts[d.Database][cmp.Or(d.Code, d.Reason)]++
		last[d.Database] = d.Stored
	}
	var out []Attention
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		causes := slices.SortedFunc(maps.Keys(counts[name]), func(a, b string) int {
			return cmp.Or(cmp.Compare(counts[name][b], counts[name][a]), strings.Compare(a, b))
		})
		at := last[name]
		item := Attention{Rank: 5, Name: name, Link: "/dead?db=" + name, Word: "dead letters", Since: &at}
		var texts []string
		for i, cause := range causes {
			item.Dead += counts[name][cause]
			if i < 3 {
				texts = append(texts, cause+" ×"+strconv.Itoa(counts[name][cause]))
			}
		}
		item.Why = strings.Join(texts, ", ")
		out = append(out, item)
	}
	return out
}
