package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

// The sizes of results that go to the object store, rows.
const (
	largeRows  = 5_000_000
	lesserRows = 500_000
	// together is how many of the large ones run at the same time.
	together = 8
	// sampled is how often their memory is looked at.
	sampled = 100 * time.Millisecond
)

const largeSQL = "SELECT id, name, amount, at, ok FROM large WHERE id <= %d"

// measureLarge asks for results that have no room in a message, as CSV, beside psql's \copy of the same query to a file.
func (w *world) measureLarge(ctx context.Context, r *report) error {
	sizes := []int{lesserRows, largeRows}
	if w.opts.quick {
		sizes = sizes[:1]
	}
	largest := sizes[len(sizes)-1]
	if err := w.createLarge(ctx, largest); err != nil {
		return err
	}
	r.Large = map[string]float64{}
	for _, rows := range sizes {
		if err := w.measureRows(ctx, r, rows); err != nil {
			return err
		}
	}
	return w.measureTogether(ctx, r, largest)
}

func (w *world) createLarge(ctx context.Context, rows int) error {
	conn, err := pgx.Connect(ctx, w.databaseURL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE large AS SELECT n::int AS id, 'customer ' || n AS name, n * 0.25::float8 AS amount,
		timestamptz '2026-01-01' + n * interval '1 second' AS at, n %% 2 = 0 AS ok FROM generate_series(1, %d) AS n`, rows))
	if err == nil {
		_, err = conn.Exec(ctx, "VACUUM ANALYZE large")
	}
	return errors.Join(err, conn.Close(ctx))
}

// measureRows runs a runner of its own, whose peak of memory is that of this result. Both take turns.
func (w *world) measureRows(ctx context.Context, r *report, rows int) error {
	p, err := w.startLarge(ctx)
	if err != nil {
		return err
	}
	var ours, theirs []float64
	for round := range w.opts.rounds {
		copied, err := w.copyRows(ctx, rows)
		if err != nil {
			return errors.Join(err, p.Stop())
		}
		stored, err := w.storeRows(ctx, fmt.Sprintf("large-%d-%d", rows, round), rows)
		if err != nil {
			return errors.Join(err, p.Stop())
		}
		progress("%d rows: psql %s, runner %s", rows, copied.Round(time.Millisecond), stored.Round(time.Millisecond))
		ours, theirs = append(ours, stored.Seconds()/copied.Seconds()), append(theirs, copied.Seconds())
	}
	name := fmt.Sprintf("%d_rows", rows)
	r.Large[name+"_psql_s"] = figures.Round(figures.Median(theirs), 100)
	r.Large[name+"_ratio_to_psql"] = figures.Round(figures.Median(ours), 100)
	r.Large[name+"_peak_mb"] = figures.Megabytes(p.Memory("VmHWM"))
	return p.Stop()
}

func (w *world) startLarge(ctx context.Context) (*process.Process, error) {
	p, err := process.Start(w.runnerEnvironment(map[string]string{"postgres": w.databaseURL()}, "POSTGRES_TIMEOUT=10m", "PATH="+os.Getenv("PATH")),
		w.opts.runner, "serve")
	if err == nil {
		wait(ctx, 2*time.Second)
	}
	return p, err
}

// copyRows is the yardstick: the client of the database writes a file.
func (w *world) copyRows(ctx context.Context, rows int) (time.Duration, error) {
	file := filepath.Join(w.dir, "rows.csv")
	defer func() { _ = os.Remove(file) }()
	command := fmt.Sprintf(`\copy (`+largeSQL+`) TO '%s' (FORMAT csv, HEADER)`, rows, file)
	started := time.Now()
	out, err := exec.CommandContext(ctx, "psql", "-X", "-q", "-d", w.databaseURL(), "-c", command).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("psql: %w: %s", err, out)
	}
	return time.Since(started), nil
}

// storeRows publishes the job and waits for its result, which refers to the rows; they are removed afterwards.
func (w *world) storeRows(ctx context.Context, id string, rows int) (time.Duration, error) {
	results, err := w.nc.SubscribeSync("dbrunner.results.postgres." + id)
	if err != nil {
		return 0, err
	}
	defer func() { _ = results.Unsubscribe() }()
	body := fmt.Sprintf(`{"id":%q,"sql":%q,"format":"csv","timeout":"10m"}`, id, fmt.Sprintf(largeSQL, rows))
	started := time.Now()
	if _, err := w.js.Publish(ctx, "dbrunner.jobs.postgres.query", []byte(body)); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	m, err := results.NextMsgWithContext(ctx)
	if err != nil {
		return 0, err
	}
	took := time.Since(started)
	return took, w.checkStored(ctx, m.Data, rows)
}

func (w *world) checkStored(ctx context.Context, result []byte, rows int) error {
	object, err := rowsObjectOf(result)
	if err != nil || object.RowCount != int64(rows) {
		return fmt.Errorf("not the rows that were asked for: %w: %.300s", err, result)
	}
	bucket, err := w.js.ObjectStore(ctx, object.Bucket)
	if err != nil {
		return err
	}
	info, err := bucket.GetInfo(ctx, object.Name)
	if err != nil {
		return err
	}
	if int64(info.Size) != object.Size || info.Digest != object.Digest { //nolint:gosec // not above 2^63
		return fmt.Errorf("the object is another one: %v", info)
	}
	stream, err := w.js.Stream(ctx, "OBJ_"+info.Bucket)
	if err != nil {
		return err
	}
	// Free the space: the bucket takes no header that would mark the object as deleted.
	return stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+info.Bucket+".C."+info.NUID))
}

// measureTogether runs several such jobs concurrently and samples the runner's memory meanwhile.
func (w *world) measureTogether(ctx context.Context, r *report, rows int) error {
	p, err := w.startLarge(ctx)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	var sizes []float64
	var sampling sync.WaitGroup
	sampling.Go(func() {
		tick := time.NewTicker(sampled)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				sizes = append(sizes, figures.Megabytes(p.Memory("VmRSS")))
			}
		}
	})
	errs := make([]error, together)
	var jobs sync.WaitGroup
	for i := range together {
		jobs.Go(func() { _, errs[i] = w.storeRows(ctx, fmt.Sprintf("together-%d", i), rows) })
	}
	jobs.Wait()
	close(done)
	sampling.Wait()
	r.Large[fmt.Sprintf("%d_at_once_peak_mb", together)] = figures.Megabytes(p.Memory("VmHWM"))
	err = errors.Join(append(errs, p.Stop())...)
	if err == nil && w.opts.out != "" {
		err = drawMemory(filepath.Join(filepath.Dir(w.opts.out), "large-memory.svg"), sizes, rows)
	}
	return err
}

// rowsObjectOf reads where the rows of a result are.
func rowsObjectOf(result []byte) (object struct {
	Bucket, Name, Digest string
	Size                 int64
	RowCount             int64 `json:"row_count"`
}, err error,
) {
	answer := struct {
		Object any `json:"rows_object"`
	}{&object}
	return object, json.Unmarshal(result, &answer)
}
