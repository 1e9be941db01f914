package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/test/faults/check"
)

// memoryBound of one runner: what its connections, its slots and the results of the largest size may take together.
const memoryBound = 512 << 20

// collect reads what the run has left, when its runners have ended.
func (r *round) collect(ctx context.Context) (*check.History, error) {
	h := &check.History{
		Seed: r.seed, Requests: r.plan.requests, Faults: r.made.list(), Publications: r.clients.publications, Cancels: r.clients.cancels,
		Balances: map[string]map[int]int64{}, Opening: opening, Tables: map[string][]int{}, Objects: map[string]check.Object{},
		Exits: r.fleet.exits, Memory: map[string]int64{}, MemoryBound: memoryBound, Connections: map[string]int{},
		Secrets: append(depotSecrets(r), natsPassword, postgresPassword), Private: []string{privateValue}, Drain: r.drain, DrainBound: r.opts.drain,
		Responses: r.clients.responses, FleetSlots: map[string]int{shop + "." + bulk: fleetSlots}, Committed: map[string]bool{},
		Pauses: r.clients.pauses, PauseBound: pauseBound, Delays: r.clients.delays, AckWait: ackWait, Skewed: r.works("clock_skew"),
		SchedulesEnded: r.clients.schedulesEnded(), Resumes: r.clients.resumes,
	}
	for _, database := range r.databases {
		h.Ordered = append(h.Ordered, database+"."+feed)
	}
	for _, m := range r.fleet.all {
		h.Memory[m.name] = m.peak
	}
	err := errors.Join(r.collectStreams(ctx, h), r.collectObjects(ctx, h), r.collectPostgres(ctx, h), r.collectSQLite(ctx, h), collectDepot(ctx, r, h),
		r.collectConnections(ctx, h))
	if err != nil {
		return nil, err
	}
	if h.Schedules, err = readSchedules(ctx, r); err != nil {
		return nil, err
	}
	h.Publications = append(append(h.Publications, enqueuedPublications(h, r.clients.enqueued)...), tickPublications(h)...)
	if err := r.nc.FlushTimeout(10 * time.Second); err != nil {
		return nil, err
	}
	r.nc.Close() // nothing is noted from here on
	r.watcher.mu.Lock()
	defer r.watcher.mu.Unlock()
	h.Seen, h.Replies, h.Naks, h.Texts = r.watcher.seen, r.watcher.replies, r.watcher.naks, r.watcher.texts
	h.Replayed = slices.ContainsFunc(r.faults, func(s scheduled) bool { return slices.Contains(replaying, s.name) })
	if r.works("clock_skew") {
		h.Naks = nil // when another runner has started is only known by that runner's clock
	}
	if len(r.watcher.odd) > 0 {
		return nil, fmt.Errorf("subscribers saw what is no result: %s", r.watcher.odd[0])
	}
	return h, r.collectLogs(h)
}

func (r *round) collectLogs(h *check.History) error {
	logs, err := filepath.Glob(filepath.Join(r.dir, "*.log"))
	if err != nil {
		return err
	}
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		h.Texts = append(h.Texts, check.Text{Where: "the log " + filepath.Base(name), Body: text})
	}
	return nil
}

func (r *round) collectStreams(ctx context.Context, h *check.History) (err error) {
	all := r.streams(ctx, r.js)
	for _, database := range r.databases {
		jobs, results := all[r.stream("JOBS", database)], all[r.stream("RESULTS", database)]
		if jobs == nil || results == nil {
			return fmt.Errorf("the streams of %s are gone", database)
		}
		h.Jobs = append(h.Jobs, check.Stream{Name: jobs.Config.Name, Database: database, Messages: jobs.State.Msgs, Last: jobs.State.LastSeq})
		h.Results = append(h.Results, check.Stream{
			Name: results.Config.Name, Database: database, Messages: results.State.Msgs, Last: results.State.LastSeq,
		})
		err = r.read(ctx, results.Config.Name, func(m jetstream.Msg) error {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			key := m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]
			a, err := check.ReadAnswer(database, key, meta.Timestamp, slices.Clone(m.Data()))
			h.Stored = append(h.Stored, a)
			return err
		})
		if err != nil {
			return err
		}
	}
	h.DeadLetters, err = r.deadLetters(ctx)
	return err
}

// read reads a whole stream.
func (r *round) read(ctx context.Context, name string, each func(jetstream.Msg) error) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	stream, err := r.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	left := stream.CachedInfo().State.Msgs
	if left == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("%d messages of %s are missing: %w", left, name, err)
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// deadLetters returns all dead letters of the run.
func (r *round) deadLetters(ctx context.Context) (list []check.DeadLetter, err error) {
	err = r.read(ctx, strings.ToUpper(r.namespace)+"_DEAD", func(m jetstream.Msg) error {
		parts := strings.Split(m.Subject(), ".")
		l := check.DeadLetter{Database: parts[2], Kind: parts[3], Key: parts[4], Headers: m.Headers(), Body: slices.Clone(m.Data())}
		l.JobID, l.Reason = nats.Header(l.Headers).Get("Dbrunner-Job-Id"), nats.Header(l.Headers).Get("Dbrunner-Reason")
		l.Sequence, _ = strconv.ParseUint(nats.Header(l.Headers).Get("Dbrunner-Sequence"), 10, 64)
		list = append(list, l)
		return nil
	})
	return list, err
}

// collectConnections looks whether the runners have left something open; what they had is closed within a moment.
func (r *round) collectConnections(ctx context.Context, h *check.History) error {
	count := func() (left int) {
		n, err := r.connections(ctx)
		if err != nil {
			return 1
		}
		h.Connections["postgres"] = n
		left = n
		if n, err = depotSessions(ctx, r); err != nil {
			return 1
		}
		h.Connections["sqlserver"] = n
		left += n
		for _, node := range r.world.cluster.nodes {
			n, err := node.strangers()
			if err != nil {
				return 1
			}
			h.Connections[node.name] = n
			left += n
		}
		return left
	}
	_ = eventually(ctx, 10*time.Second, "nothing is left open", func() bool { return count() == 0 })
	return nil
}

func (r *round) collectPostgres(ctx context.Context, h *check.History) error {
	config, err := pgx.ParseConfig(r.world.postgres.URL(r.database))
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	if err = errors.Join(collectSpans(ctx, h, db), collectFeed(ctx, h, db, shop)); err != nil {
		return err
	}
	return collectTables(ctx, h, db, shop, tableNames{
		ledger: "dbrunner.ledger", history: "dbrunner.migrations", hasHistory: `SELECT to_regclass('dbrunner.migrations') IS NOT NULL`,
		tables: `SELECT substr(relname, 10)::int FROM pg_class WHERE relname LIKE 'migrated\_%' AND relkind = 'r' ORDER BY 1`,
	})
}

func collectSpans(ctx context.Context, h *check.History, db *sql.DB) error {
	return each(ctx, db, `SELECT request, started, finished FROM spans`, func(scan func(...any) error) error {
		var s check.Span
		err := scan(&s.Request, &s.From, &s.Until)
		h.Spans = append(h.Spans, s)
		return err
	})
}

func (r *round) collectSQLite(ctx context.Context, h *check.History) error {
	db, err := r.openSQLite()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return errors.Join(collectFeed(ctx, h, db, edge), collectTables(ctx, h, db, edge, tableNames{ledger: "dbrunner_ledger"}))
}

// tableNames are where an engine keeps what is looked at.
type tableNames struct{ ledger, history, hasHistory, tables string }

func collectTables(ctx context.Context, h *check.History, db *sql.DB, database string, names tableNames) error {
	balances := map[int]int64{}
	h.Balances[database] = balances
	err := errors.Join(
		collectOutbox(ctx, h, db, database),
		each(ctx, db, `SELECT request, source, target, amount FROM effects`, func(scan func(...any) error) error {
			row := check.Row{Database: database}
			err := scan(&row.Request, &row.From, &row.To, &row.Amount)
			h.Effects = append(h.Effects, row)
			return err
		}),
		each(ctx, db, `SELECT id, balance FROM accounts`, func(scan func(...any) error) error {
			var id int
			var balance int64
			err := scan(&id, &balance)
			balances[id] = balance
			return err
		}),
		each(ctx, db, `SELECT job_id, status, answer, sequence FROM `+names.ledger, func(scan func(...any) error) error {
			row := check.LedgerRow{Database: database}
			err := scan(&row.JobID, &row.Status, &row.Answer, &row.Sequence)
			h.Ledger = append(h.Ledger, row)
			return err
		}),
	)
	if err != nil || names.history == "" {
		return err
	}
	return collectMigrations(ctx, h, db, database, names)
}

func collectMigrations(ctx context.Context, h *check.History, db *sql.DB, database string, names tableNames) error {
	var migrated bool
	if err := db.QueryRowContext(ctx, names.hasHistory).Scan(&migrated); err != nil || !migrated {
		return err
	}
	h.Tables[database] = nil
	return errors.Join(
		each(ctx, db, `SELECT CAST(label AS integer) FROM `+names.history+` WHERE state = 'done' AND direction IN ('up', 'adopt') ORDER BY id`, func(scan func(...any) error) error {
			a := check.Applied{Database: database}
			err := scan(&a.Version)
			h.Applied = append(h.Applied, a)
			return err
		}),
		each(ctx, db, names.tables, func(scan func(...any) error) error {
			var n int
			err := scan(&n)
			h.Tables[database] = append(h.Tables[database], n)
			return err
		}),
	)
}

// each runs a query and hands over its rows.
func each(ctx context.Context, db *sql.DB, query string, row func(scan func(...any) error) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%.60s: %w", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return fmt.Errorf("%.60s: %w", query, err)
		}
	}
	return rows.Err()
}
