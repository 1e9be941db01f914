package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
)

// runID makes the ids of one run's jobs: no other run has them. Every job has its own from the moment on that it is
// planned; a job that is sent again keeps it.
type runID struct{ prefix string }

func newRun() *runID { return &runID{prefix: "publisher-" + rand.Text()[:12]} }

type obj = map[string]any

// job makes a job of a body; the id goes into it.
func (r *runID) job(name, kind string, body obj) *Job {
	id := r.prefix + "-" + name
	body["id"] = id
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // bodies of this file are strings, numbers, lists and objects
	}
	return &Job{ID: id, Kind: kind, Body: raw}
}

func (r *runID) total(name string) *Job {
	return r.job(name, "query", obj{
		"sql":        "SELECT count(*) AS accounts, sum(balance) AS total FROM accounts",
		"row_format": "arrays",
	})
}

func (r *runID) mistaken() *Job {
	return r.job("mistaken", "query", obj{"sqll": "SELECT 1", "timeout": "soon"})
}

func (r *runID) impossible() *Job {
	return r.job("impossible", "query", obj{"sql": "SELECT * FROM no_such_table"})
}

// exported is a query whose rows are wanted as a file. Without the key output, rows that have room in the result stay there.
func (r *runID) exported() *Job {
	return r.job("exported", "query", obj{
		"sql":    "SELECT id, owner, balance FROM accounts ORDER BY id",
		"output": "object",
		"format": "csv",
	})
}

func (r *runID) replied(subject string) *Job {
	return r.job("replied", "query", obj{
		"sql":      "SELECT owner, balance FROM accounts WHERE id = :id",
		"params":   obj{"id": 1},
		"reply_to": subject,
	})
}

// transfers are transactions that move one unit each between the first two accounts, there and back in turn. The
// guards (expect_rows) roll a transfer back that does not find both accounts.
func (r *runID) transfers(n int) []*Job {
	jobs := make([]*Job, 0, n)
	for i := range n {
		from, to := 1+i%2, 2-i%2
		jobs = append(jobs, r.job(fmt.Sprintf("transfer-%03d", i), "transaction", obj{
			"statements": []obj{
				{"sql": "UPDATE accounts SET balance = balance - 1 WHERE id = :id", "params": obj{"id": from}, "expect_rows": 1},
				{"sql": "UPDATE accounts SET balance = balance + 1 WHERE id = :id", "params": obj{"id": to}, "expect_rows": 1},
			},
			"labels": obj{"example": "publisher"},
		}))
	}
	return jobs
}
