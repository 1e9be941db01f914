package app

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

// migrator runs migrations and publishes where they are.
type migrator struct {
	r        *running
	database *database
}

// Run runs an action.
func (m *migrator) Run(ctx context.Context, req migration.Request) (*migration.Report, error) {
	if req.Action.Reads() {
		return m.database.Migrations.Run(ctx, req)
	}
	p := &progress{r: m.r, changed: true, message: migrationProgress{
		Version: 1, Database: m.database.Name, Instance: m.r.cfg.Instance, JobID: req.Job, State: "waiting", Action: req.Action,
		Target: req.Target, StartedAt: time.Now().UTC(),
	}}
	ended := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() { p.run(ctx, ended) })
	req.Progress = p.note
	report, err := m.database.Migrations.Run(ctx, req)
	close(ended)
	publishing.Wait()
	p.end(ctx, report, err)
	return report, err
}

// The pace at which the progress of a migration is published: soon after a change, and now and then without one.
const (
	progressSoonest = 500 * time.Millisecond
	progressLatest  = 5 * time.Second
	progressTimeout = 3 * time.Second
)

// migrationProgress is the message that reports where a migration is; the last one of a database is kept.
type migrationProgress struct {
	Version    int              `json:"version"` // of this message
	Database   string           `json:"database"`
	Instance   string           `json:"instance"`
	JobID      string           `json:"job_id,omitempty"`
	State      string           `json:"state"` // waiting (for the lock), running, succeeded, failed
	Action     migration.Action `json:"action"`
	Target     string           `json:"target,omitempty"`
	File       string           `json:"file,omitempty"`
	FileIndex  int              `json:"file_index,omitempty"` // among the files of this action, from 1
	Files      int              `json:"files,omitempty"`
	Statement  int              `json:"statement,omitempty"` // under way, from 1
	Statements int              `json:"statements,omitempty"`
	StartedAt  time.Time        `json:"started_at"`
	At         time.Time        `json:"at"`
	Elapsed    float64          `json:"elapsed_seconds"`
	AtVersion  string           `json:"at_version,omitempty"` // of the database, when the action has ended
	Error      string           `json:"error,omitempty"`      // code, when it has failed
}

// progress publishes where one migration is. A message that cannot be published is dropped: the next one has more.
type progress struct {
	r  *running
	mu sync.Mutex // guards what follows

	message migrationProgress
	changed bool
}

// note takes the news of a migration. It does not block.
func (p *progress) note(news migration.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.message
	m.State, m.File, m.FileIndex, m.Files = "running", news.File, news.Index, news.Of
	m.Statement, m.Statements = news.Statement, news.Statements
	p.changed = true
}

// run publishes until the migration has ended.
func (p *progress) run(ctx context.Context, ended <-chan struct{}) {
	ticker := time.NewTicker(progressSoonest)
	defer ticker.Stop()
	var published time.Time
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		due := p.changed || time.Since(published) >= progressLatest
		p.mu.Unlock()
		if due {
			p.publish(ctx)
			published = time.Now()
		}
	}
}

// end publishes how the migration ended.
func (p *progress) end(ctx context.Context, report *migration.Report, err error) {
	p.mu.Lock()
	p.message.State = "succeeded"
	if err != nil {
		p.message.State = "failed"
		p.message.Error = string(contract.CodeInternal)
		if e, ok := errors.AsType[*db.Error](err); ok {
			p.message.Error = string(e.Code)
		}
	}
	if report != nil {
		p.message.AtVersion = report.After.Label
	}
	p.mu.Unlock()
	p.publish(ctx)
}

func (p *progress) publish(ctx context.Context) {
	p.mu.Lock()
	p.changed = false
	p.message.At = time.Now().UTC()
	p.message.Elapsed = p.message.At.Sub(p.message.StartedAt).Seconds()
	body, err := json.Marshal(&p.message)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), progressTimeout)
	defer cancel()
	if err == nil {
		err = bus.PublishMigration(ctx, p.r.conn, p.message.Database, body)
	}
	if err != nil {
		p.r.log.Warn("migration progress not published", zap.String("database", p.message.Database), zap.Error(err))
	}
}
