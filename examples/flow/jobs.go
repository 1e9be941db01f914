package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"dbrunner/client"
)

type obj = map[string]any

// step is one piece of the flow's work: what is asked of a database, under a name that no other piece of the run has.
// Each try of it is a job of its own; the names of the tries are the same in every life of the run.
type step struct {
	name     string
	database string
	kind     string
	body     obj
	wait     time.Duration // 0: the flow's
}

// job is the step's job for the given try, from 1. A flow that was started again makes the same ids, and so finds what
// it did before.
func (s *step) job(run string, try int) (*client.Job, error) {
	id := run + "-" + s.name
	if try > 1 {
		id += fmt.Sprintf("-t%d", try)
	}
	body := obj{"id": id, "labels": obj{"flow": run, "step": s.name}}
	maps.Copy(body, s.body)
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", id, err)
	}
	return &client.Job{Database: s.database, Kind: s.kind, ID: id, Body: encoded}, nil
}

// prepare makes the flow's table. It has no unique key: an effect that is there twice would be seen.
func prepare(database string) *step {
	return &step{name: "prepare", database: database, kind: "transaction", body: obj{"statements": []obj{
		{"sql": "CREATE TABLE IF NOT EXISTS flow_bookings (flow_run varchar(100) NOT NULL, step varchar(100) NOT NULL)"},
	}}}
}

// fan is the work: bookings, which are transactions that take effect exactly once, and reads in turn, spread over the
// databases.
func fan(run string, databases []string, n int) []*step {
	steps := make([]*step, 0, n)
	for i := range n {
		database, round := databases[i%len(databases)], i/len(databases)
		if round%2 == 0 {
			steps = append(steps, booking(run, database, fmt.Sprintf("book-%04d", i)))
		} else {
			steps = append(steps, read(database, fmt.Sprintf("read-%04d", i), i))
		}
	}
	return steps
}

func booking(run, database, name string) *step {
	return &step{name: name, database: database, kind: "transaction", body: obj{"statements": []obj{{
		"sql":         "INSERT INTO flow_bookings (flow_run, step) VALUES (:run, :step)",
		"params":      obj{"run": run, "step": name},
		"expect_rows": 1,
	}}}}
}

func read(database, name string, n int) *step {
	return &step{name: name, database: database, kind: "query", body: obj{
		"sql": "SELECT CAST(:n AS integer) AS n", "params": obj{"n": n},
	}}
}

// check counts the run's bookings: rows and distinct steps. Its name is another one each time: what was counted in an
// earlier life says nothing of now.
func check(run, database string) *step {
	return &step{name: fmt.Sprintf("check-%d", time.Now().UnixNano()), database: database, kind: "query", body: obj{
		"sql": "SELECT CAST(count(*) AS integer), CAST(count(DISTINCT step) AS integer) " +
			"FROM flow_bookings WHERE flow_run = :run",
		"params": obj{"run": run}, "row_format": "arrays",
	}}
}

// export reads the run's bookings into the object store. The key output sends them there however few they are; without it,
// rows that have room in the result stay in it.
func export(run, database string) *step {
	return &step{name: "export", database: database, kind: "query", body: obj{
		"sql":    "SELECT flow_run, step FROM flow_bookings WHERE flow_run = :run ORDER BY step",
		"params": obj{"run": run}, "output": "object", "format": "csv",
	}}
}

// trouble are steps that do not succeed, each in its own way.
func trouble(database string) []*step {
	return []*step{
		{name: "mistaken", database: database, kind: "query", body: obj{"sqll": "SELECT 1"}},
		{name: "impossible", database: database, kind: "query", body: obj{"sql": "SELECT * FROM no_such_table"}},
		{name: "late", database: database, kind: "query", body: obj{"sql": "SELECT 1 AS n", "expires_at": "2020-01-01T00:00:00Z"}},
		{name: "endless", database: database, kind: "query", wait: 2 * time.Second, body: obj{
			"sql": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) SELECT count(*) AS n FROM n",
		}},
	}
}
