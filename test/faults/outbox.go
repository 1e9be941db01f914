package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // its driver for database/sql

	"dbrunner/internal/db/postgres"
	"dbrunner/test/faults/check"
)

// outboxTargets are where the rows of each database may go.
func outboxTargets(database string) []string {
	if database == edge {
		return []string{"jobs.shop.transaction"}
	}
	if database == depot {
		return []string{"jobs.depot.transaction", "jobs.shop.transaction", "queues.depot." + bulk + ".transaction", "jobs.depot.call.pay"}
	}
	return []string{"jobs.shop.transaction", "jobs.edge.transaction", "queues.shop." + bulk + ".transaction", "jobs.shop.call.pay"}
}

func outboxTable(database string) string {
	if database == edge {
		return "dbrunner_outbox"
	}
	return "dbrunner.outbox"
}

// outboxEnvironment is the configuration of the outboxes.
func outboxEnvironment(r *round) []string {
	return []string{
		"SHOP_OUTBOX_CONNECTION_STRING=" + r.linkedPostgres(), "SHOP_OUTBOX_TARGETS=" + strings.Join(outboxTargets(shop), ","),
		"EDGE_OUTBOX_TARGETS=" + strings.Join(outboxTargets(edge), ","),
	}
}

// createOutbox creates the table of shop's; runners create that of edge.
func createOutbox(ctx context.Context, r *round) error {
	return r.world.exec(ctx, r.database, "SET ROLE runner", postgres.OutboxDDL())
}

// enqueuing is a row that an application inserts in a transaction of its own.
type enqueuing struct {
	source   string // database
	target   string
	rollBack bool
}

// outboxed is a job that an application inserts into an outbox, in a transaction that commits or, one in four, rolls back.
func outboxed(p *planner, name string) {
	e := &enqueuing{source: primary(p), rollBack: p.rng.IntN(4) == 0}
	if p.home == "" && p.rng.IntN(5) == 0 {
		e.source = edge
	}
	targets := outboxTargets(e.source)
	e.target = targets[p.rng.IntN(len(targets))]
	parts := strings.Split(e.target, ".")
	r := &check.Request{
		Name: name, Class: "outboxed", Database: parts[1], Kind: "transaction", ID: name, Effect: check.ExactlyOnce, Rows: 1,
		Statuses: []string{check.Succeeded}, Outbox: e.source,
	}
	b := body{"labels": body{"request": name}}
	switch {
	case parts[0] == "queues":
		r.Queue, b["statements"] = parts[2], spanOf(p, r.Database, name)
	case parts[2] == "call":
		r.Kind, r.Call, b["params"] = "call", parts[3], payment(p, name)
	default:
		b["statements"] = p.movement(name)
	}
	p.requests[name] = r
	p.encode(r, b)
	p.acts = append(p.acts, act{at: p.when(), request: r, what: "enqueue", row: e})
}

// enqueue inserts the row and the application's own. If the connection is lost it is not tried again: the application's row shows
// whether it was committed.
func (c *clients) enqueue(ctx context.Context, r *check.Request, e *enqueuing) {
	p := check.Publication{Request: r.Name, From: time.Now()}
	err := c.insert(ctx, r, e)
	p.Until = time.Now()
	if err != nil {
		p.Error = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enqueued[r.Name] = p
}

func (c *clients) insert(ctx context.Context, r *check.Request, e *enqueuing) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	db, done, err := openDatabase(c.r, e.source)
	if err != nil {
		return err
	}
	defer done()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // unless it is committed
	mark := placeholder(e.source)
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES (`+mark+`1)`, r.Name); err != nil {
		return err
	}
	insert := fmt.Sprintf(`INSERT INTO %s (id, target, body) VALUES (%[2]s1, %[2]s2, %[2]s3)`, outboxTable(e.source), mark)
	if _, err := tx.ExecContext(ctx, insert, r.ID, e.target, string(r.Body)); err != nil || e.rollBack {
		return err
	}
	return tx.Commit()
}

// openDatabase opens a database as an application: it connects when it is used. The caller calls done at the end.
func openDatabase(r *round, database string) (db *sql.DB, done func(), err error) {
	switch database {
	case edge:
		db, err = r.openSQLite()
	case depot:
		return r.depot.db, func() {}, nil // sessions are kept: a login takes long
	default:
		db, err = sql.Open("pgx", r.world.postgres.URL(r.database))
	}
	return db, func() { _ = db.Close() }, err
}

// outboxRows counts the rows that are left in the outboxes; 1 without an answer.
func outboxRows(ctx context.Context, r *round) (n uint64) {
	for _, database := range r.databases {
		var left uint64 = 1
		if db, done, err := openDatabase(r, database); err == nil {
			if db.QueryRowContext(ctx, `SELECT count(*) FROM `+outboxTable(database)).Scan(&left) != nil {
				left = 1
			}
			done()
		}
		n += left
	}
	return n
}

// collectOutbox reads which transactions of applications were committed, and what is left of their rows.
func collectOutbox(ctx context.Context, h *check.History, db *sql.DB, database string) error {
	err := each(ctx, db, `SELECT id FROM orders`, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		h.Committed[name] = true
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, db, `SELECT id, coalesce(error, '') FROM `+outboxTable(database), func(scan func(...any) error) error {
		row := check.OutboxRow{Database: database}
		err := scan(&row.ID, &row.Error)
		h.Outbox = append(h.Outbox, row)
		return err
	})
}

// enqueuedPublications are the publications of the rows whose transactions were committed.
func enqueuedPublications(h *check.History, enqueued map[string]check.Publication) (list []check.Publication) {
	for name, p := range enqueued {
		if h.Committed[name] {
			p.Acked = true
			list = append(list, p)
		}
	}
	return list
}
