package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

const (
	items = 100_000 // rows of the point select and of the update
	facts = 1_000   // rows of the large result
)

// work is one kind of job, numbered from 0. The texts are the same for everybody who does it.
type work struct {
	name   string
	engine string
	kind   string // last token of the job's subject
	jobs   int    // backlog of a full run
	own    func(n int) string
	rows   func(buf []byte, n int) []byte // what the answer must contain
}

// sqlserver is the engine that is measured where a server is named.
const sqlserver = "sqlserver"

// works are all of them.
func works() []work {
	return append([]work{
		{"a", "postgres", "query", 100_000, selectParameter, parameterRows},
		{"b", "postgres", "query", 200_000, selectItem("$1"), itemRows},
		{"c", "postgres", "transaction", 40_000, transfer("$1", "$2"), transferRows},
		{"d", "postgres", "query", 10_000, selectFacts, factRows()},
		{"sqlite-b", "sqlite", "query", 240_000, selectItem("?"), itemRows},
		{"sqlite-c", "sqlite", "transaction", 20_000, transfer("?", "?"), transferRows},
	}, sqlServerWorks()...)
}

// modes are the ways in which the runner does a work.
func (w *work) modes() []string {
	switch {
	case w.kind == "transaction" && w.engine != sqlserver:
		return []string{"exactly_once", "at_least_once", "shared"}
	case w.kind == "transaction":
		return []string{"exactly_once", "at_least_once"}
	case w.engine == "postgres":
		return []string{"stored", "reply"}
	}
	return []string{"stored"}
}

// job appends the body of job n. A job with a subject for its reply is one of mode reply or of the bare worker, which
// looks at no key besides.
func (w *work) job(buf []byte, n int, id, mode, reply string) []byte {
	buf = fmt.Appendf(buf, `{"id":%q,`, id)
	if reply != "" {
		buf = fmt.Appendf(buf, `"reply_to":%q,`, reply)
	}
	switch mode {
	case "reply":
		buf = append(buf, `"answer":"reply",`...)
	case "at_least_once":
		buf = append(buf, `"effect":"at_least_once",`...)
	case "shared":
		buf = append(buf, `"commit":"shared",`...)
	}
	buf = append(buf, w.own(n)...)
	return append(buf, '}')
}

// check returns what is wrong with an answer.
func (w *work) check(answer []byte, n int, buf []byte) error {
	want := w.rows(buf[:0], n)
	head, _, _ := bytes.Cut(want, []byte("["))
	// The rows are looked for at their key: a plain search for all of them would cost the more the more stands before
	// them, which is no cost of the worker's.
	for rest := answer; ; rest = rest[1:] {
		at := bytes.Index(rest, head)
		if at < 0 {
			return fmt.Errorf("work %s: job %d: the answer lacks %.200s: %.300s", w.name, n, want, answer)
		}
		if rest = rest[at:]; bytes.HasPrefix(rest, want) {
			return nil
		}
	}
}

func itemOf(n int) int { return n*7919%items + 1 }

func selectParameter(n int) string {
	return `"sql":"SELECT $1::int AS n","params":[` + strconv.Itoa(n) + `]`
}

func parameterRows(buf []byte, n int) []byte { return fmt.Appendf(buf, `"rows":[{"n":%d}]`, n) }

func selectItem(mark string) func(n int) string {
	return func(n int) string {
		return `"sql":"SELECT id, name, amount FROM items WHERE id = ` + mark + `","params":[` + strconv.Itoa(itemOf(n)) + `]`
	}
}

func itemRows(buf []byte, n int) []byte {
	i := itemOf(n)
	return fmt.Appendf(buf, `"rows":[{"id":%d,"name":"item %d","amount":%d}]`, i, i, i%1000)
}

func transfer(first, second string) func(n int) string {
	return func(n int) string {
		return fmt.Sprintf(`"statements":[{"sql":"UPDATE accounts SET balance = balance + %[1]s WHERE id = %[2]s","params":[3,%[3]d]},`+
			`{"sql":"INSERT INTO effects (job, account) VALUES (%[1]s, %[2]s)","params":[%[4]d,%[3]d]}]`,
			first, second, itemOf(n), n)
	}
}

func transferRows(buf []byte, _ int) []byte {
	return append(buf, `"statements":[{"rows_affected":1},{"rows_affected":1}]`...)
}

func selectFacts(int) string { return `"sql":"SELECT id, name, score, at, flag FROM facts"` }

func factRows() func([]byte, int) []byte {
	all := []byte(`"rows":[`)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := 1; i <= facts; i++ {
		if i > 1 {
			all = append(all, ',')
		}
		at := start.Add(time.Duration(i) * time.Minute).Format("2006-01-02 15:04:05-07")
		all = fmt.Appendf(all, `{"id":%d,"name":"fact %d","score":%d.25,"at":%q,"flag":%t}`, i, i, i, at, i%2 == 0)
	}
	all = append(all, ']')
	return func([]byte, int) []byte { return all }
}
