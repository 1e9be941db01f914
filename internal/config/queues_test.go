package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// TestQueues reads queues from the file and from the environment, and completes what they leave out.
func TestQueues(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(config.Options{
		File:    file(t, entry("queues: {bulk: {slots: 4, fleet_slots: 8}, feed: {}, narrow: {fleet_slots: 1}}")+"\ntopology: {max_ack_pending: 500}"),
		Environ: []string{"A_QUEUES=night,feed", "A_QUEUES_NIGHT_FLEET_SLOTS=3", "A_QUEUES_BULK_SLOTS=5"},
		Words:   words(),
	})
	require.NoError(t, err)
	require.Equal(t, map[string]*config.Queue{
		"bulk": {Slots: 5, FleetSlots: 8}, "feed": {Slots: 2, FleetSlots: 500}, "narrow": {Slots: 1, FleetSlots: 1}, "night": {Slots: 2, FleetSlots: 3},
	}, cfg.Databases["a"].Queues)
}

func TestQueueFaults(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 17 {
		many = append(many, fmt.Sprintf("q%d: {}", i))
	}
	for name, c := range map[string]struct {
		keys    string
		environ []string
		want    string
	}{
		"name":              {keys: "queues: {Bulk: {}}", want: "databases.a.queues.Bulk: invalid queue name; write 1 to 64 of a-z 0-9 _"},
		"name in a list":    {environ: []string{"A_QUEUES=bulk,big-ones"}, want: "A_QUEUES: name 2 in the list is not a valid queue name"},
		"unknown key":       {keys: "queues: {bulk: {slot: 1}}", want: "databases.a.queues.bulk.slot: unknown key; did you mean slots?"},
		"unknown variable":  {keys: "queues: {bulk: {}}", environ: []string{"A_QUEUES_BULK_SLOT=1"}, want: "A_QUEUES_BULK_SLOT: unknown setting; did you mean A_QUEUES_BULK_SLOTS?"},
		"no section":        {keys: "queues: {bulk: 2}", want: "databases.a.queues.bulk: expected nested keys with values"},
		"all connections":   {keys: "queues: {bulk: {slots: 4}}, pool: {max: 4}", want: "databases.a.queues.bulk.slots: 4 jobs of the queue at a time could take all 4 connections of the pool"},
		"more than fleet":   {keys: "queues: {bulk: {slots: 3, fleet_slots: 2}}", want: "one runner cannot have 3 jobs of the queue in flight when the fleet may have 2"},
		"range":             {keys: "queues: {bulk: {slots: 0}}", want: "databases.a.queues.bulk.slots: write a value from 1 to 10000"},
		"too many":          {keys: "pool: {max: 100}, queues: {" + strings.Join(many, ", ") + "}", want: "the database has 17 queues; write at most 16"},
		"shared variable":   {keys: "queues: {a: {}, a_fleet: {}}", want: "the environment variable A_QUEUES_A_FLEET_SLOTS would be that of two of its queues"},
		"above worker":      {keys: "slots: 60, queues: {bulk: {slots: 5}}", environ: []string{"RUNNER_WORKER_MAX_SLOTS=64"}, want: "the databases together hold 65 jobs (a 65)"},
		"none for defaults": {keys: "", environ: []string{"RUNNER_DEFAULTS_QUEUES=bulk"}, want: "RUNNER_DEFAULTS_QUEUES: unknown setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(config.Options{File: file(t, entry(c.keys)), Environ: c.environ, Words: words()})
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestOrderedQueues have one slot in the whole fleet, in the file and in the environment.
func TestOrderedQueues(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(config.Options{
		File: file(t, entry("queues: {feed: {ordered: true}}")), Environ: []string{"A_QUEUES=night", "A_QUEUES_NIGHT_ORDERED=true"}, Words: words(),
	})
	require.NoError(t, err)
	one := &config.Queue{Ordered: true, Slots: 1, FleetSlots: 1}
	require.Equal(t, map[string]*config.Queue{"feed": one, "night": one}, cfg.Databases["a"].Queues)
	for keys, want := range map[string]string{
		"queues: {feed: {ordered: true, slots: 1}}":               "databases.a.queues.feed.slots: an ordered queue runs one job at a time in the whole fleet; leave slots out",
		"queues: {feed: {ordered: true, fleet_slots: 2}}":         "databases.a.queues.feed.fleet_slots: an ordered queue runs one job at a time in the whole fleet; leave fleet_slots out",
		"queues: {feed: {ordered: yes please}}":                   "databases.a.queues.feed.ordered: ",
		"ledger: {mode: off}, queues: {feed: {ordered: true}}":    "databases.a.queues.feed.ordered: jobs of an ordered queue need a ledger; write ledger.mode: manage or verify",
		"effects: [read_only], queues: {feed: {ordered: true}}":   "databases.a.queues.feed.ordered: an ordered queue takes only jobs with the effect exactly_once; add it to effects",
		"kinds: [query], queues: {feed: {ordered: true}}":         "databases.a.queues.feed.ordered: an ordered queue takes only jobs of the kinds transaction and call; add one of them to kinds",
		"pool: {min: 1, max: 1}, queues: {feed: {ordered: true}}": "1 jobs of the queue at a time could take all 1 connections of the pool",
	} {
		_, err := config.Load(config.Options{File: file(t, entry(keys)), Words: words()})
		require.ErrorContains(t, err, want)
	}
}
