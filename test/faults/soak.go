package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dbrunner/test/faults/check"
)

const (
	soakRate    = 200 // jobs a second
	soakPoints  = 240 // samples of a run, at most one a second
	soakHistory = 30 * time.Second
)

// soakEnvironment bounds what is kept by design, so that whatever else grows is seen within an hour: results and ledger rows
// for a minute or so, dead letters up to a size.
func soakEnvironment() []string {
	return []string{
		"RUNNER_TOPOLOGY_RESULTS_MIN_AGE=5s", "RUNNER_TOPOLOGY_RESULTS_MAX_AGE=" + soakHistory.String(),
		"RUNNER_TOPOLOGY_JOBS_DUPLICATE_WINDOW=10s", "RUNNER_TOPOLOGY_DEAD_MAX_BYTES=2MiB",
		"RUNNER_LOG_LEVEL=warn", "SHOP_LEDGER_RETENTION=" + soakHistory.String(), "SHOP_LEDGER_SWEEP_INTERVAL=2s",
		"EDGE_LEDGER_RETENTION=" + soakHistory.String(), "EDGE_LEDGER_SWEEP_INTERVAL=2s",
	}
}

// series is one figure over time.
type series struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Early  float64   `json:"early"` // median of the second fifth
	Late   float64   `json:"late"`  // median of the last fifth
	Flat   bool      `json:"flat"`
	Theirs bool      `json:"theirs,omitempty"` // of the NATS servers: reported, not judged

	slack float64 // what it may grow by besides a quarter
}

// soakReport is all figures of a long run.
type soakReport struct {
	Command string    `json:"command"`
	Time    string    `json:"time"`
	Seconds float64   `json:"seconds"`
	Step    float64   `json:"step_s"`
	Jobs    uint64    `json:"jobs"`
	Series  []*series `json:"series"`
}

// soaking is a long run under way.
type soaking struct {
	r      *round
	ports  []int // of the runners' metrics
	report *soakReport
}

// runSoak publishes at an even rate for a long time and looks at what the processes and the servers hold meanwhile.
func (o *options) runSoak(ctx context.Context, w *world) error {
	binary, err := w.build(ctx, "plain", "")
	if err != nil {
		return err
	}
	one := *o
	one.only, one.jobs, one.length = []string{"none"}, 10, time.Second
	r, err := w.newRound(ctx, &one, binary, o.seed, 1)
	if r != nil {
		defer r.close(context.WithoutCancel(ctx))
	}
	if err != nil {
		return err
	}
	s := &soaking{r: r, report: &soakReport{Command: "go run ./test/faults " + strings.Join(os.Args[1:], " "), Time: time.Now().UTC().Format(time.RFC3339)}}
	for range runners {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.ports = append(s.ports, port)
	}
	r.fleet.env = append(r.fleet.env, soakEnvironment()...)
	r.fleet.start(func(i int) []string { return []string{"RUNNER_HTTP_ADDRESS=" + address(s.ports[i])} })
	if err := r.serving(ctx); err != nil {
		return errors.Join(err, r.lastWords())
	}
	if err := s.run(ctx, o.soak); err != nil {
		return err
	}
	return s.finish(o)
}

// run publishes and samples until the time is over.
func (s *soaking) run(ctx context.Context, length time.Duration) error {
	limited, stop := context.WithTimeout(ctx, length)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { s.publish(limited) })
	step := max(time.Second, length/soakPoints)
	s.report.Step, s.report.Seconds = step.Seconds(), length.Seconds()
	var err error
	for wait(limited, step) == nil && err == nil {
		err = s.sample(limited)
		if limited.Err() != nil {
			err = nil
		}
	}
	stop()
	all.Wait()
	if stream, infoErr := s.r.js.Stream(ctx, s.r.stream("JOBS", shop)); infoErr == nil {
		s.report.Jobs = stream.CachedInfo().State.LastSeq
	}
	return errors.Join(err, ctx.Err())
}

// publish keeps an even rate. Ids are the stream's, and nothing is kept of what was published.
func (s *soaking) publish(ctx context.Context) {
	p := &planner{plan: &plan{requests: map[string]*check.Request{}}, rng: newRand(s.r.seed, 1), namespace: s.r.namespace, length: time.Second}
	var all sync.WaitGroup
	tokens := make(chan struct{}, inFlight)
	begin := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if wait(ctx, time.Until(begin.Add(time.Duration(n)*time.Second/soakRate))) != nil {
			break
		}
		subject, text := p.soakJob(n)
		tokens <- struct{}{}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, _ = s.r.js.Publish(ctx, subject, text)
			<-tokens
		})
	}
	all.Wait()
}

// soakJob is one job that leaves nothing behind but its ledger row and its result, or its dead letter.
func (p *planner) soakJob(n int) (subject string, text []byte) {
	database, kind := p.where(), "transaction"
	b := body{"statements": p.movement("soak")[1:]}
	switch {
	case n%50 == 7:
		b = body{"statements": []body{{"sql": "UPDATE accounts SET balance = balance WHERE id = 0", "expect_rows": 1}}}
	case n%10 == 3:
		kind, b = "query", body{"sql": "SELECT sum(balance) AS sum FROM accounts"}
	case n%500 == 11:
		database, kind, b = shop, "query", body{"sql": "SELECT repeat('x', 200000) AS text"}
	}
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // maps of texts and numbers
	}
	return p.namespace + ".jobs." + database + "." + kind, text
}

// sample looks at everything once.
func (s *soaking) sample(ctx context.Context) error {
	const mb = 1e6
	for i, m := range s.r.fleet.all {
		pid := m.process(ctx).cmd.Process.Pid
		s.note(m.name+" memory", "MB", 10, float64(status(pid, "VmRSS"))/mb)
		s.note(m.name+" goroutines", "", 20, goroutines(s.ports[i]))
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return err
		}
		s.note(m.name+" open files", "", 10, float64(len(files)))
	}
	sessions, err := s.r.connections(ctx)
	if err != nil {
		return err
	}
	s.note("sessions at PostgreSQL", "", 3, float64(sessions))
	connections, stores := 0, int64(0)
	for _, n := range s.r.world.cluster.nodes {
		count, err := n.strangers()
		if err != nil {
			return err
		}
		connections += count
		stores += sizeOf(n.dir)
		s.note(n.name+" memory", "MB", notOurs, float64(status(n.process().cmd.Process.Pid, "VmRSS"))/mb)
	}
	s.note("connections at NATS", "", 1, float64(connections))
	s.note("files of NATS", "MB", notOurs, float64(stores)/mb)
	var size int64
	if err := s.r.world.ask(ctx, fmt.Sprintf(`SELECT pg_database_size('%s')`, s.r.database), &size); err != nil {
		return err
	}
	s.note("database of PostgreSQL", "MB", 10, float64(size)/mb)
	s.note("files of SQLite", "MB", 5, float64(sizeOf(s.r.dir))/mb)
	s.note("jobs that wait", "", 200, float64(s.r.waiting(ctx)))
	return nil
}

// notOurs is the slack of what is reported and not judged.
const notOurs = -1

func (s *soaking) note(name, unit string, slack, value float64) {
	for _, x := range s.report.Series {
		if x.Name == name {
			x.Values = append(x.Values, round2(value))
			return
		}
	}
	s.report.Series = append(s.report.Series, &series{
		Name: name, Unit: unit, slack: slack, Values: []float64{round2(value)}, Theirs: slack == notOurs,
	})
}

// goroutines reads a runner's own figure; 0 when it does not answer.
func goroutines(port int) float64 {
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Get("http://" + address(port) + "/metrics")
	if err != nil {
		return 0
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, _ := strconv.ParseFloat(rest, 64)
			return n
		}
	}
	return 0
}

// sizeOf is how much the files of a folder take.
func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // a file that has just gone takes nothing
		}
		if info, err := d.Info(); err == nil && filepath.Ext(d.Name()) != ".log" {
			size += info.Size()
		}
		return nil
	})
	return size
}

// finish judges each figure, and writes the report and its graph.
func (s *soaking) finish(o *options) error {
	var grown []error
	for _, x := range s.report.Series {
		x.judge()
		verdict := "flat"
		switch {
		case x.Theirs:
			verdict = "(the server's)"
		case !x.Flat:
			verdict = "GROWS"
			grown = append(grown, fmt.Errorf("%s grows from %.1f to %.1f", x.Name, x.Early, x.Late))
		}
		fmt.Printf("%-24s %10.1f → %10.1f %-3s %s\n", x.Name, x.Early, x.Late, x.Unit, verdict)
	}
	if o.out != "" {
		text, err := json.MarshalIndent(s.report, "", " ")
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
			return err
		}
		graph := strings.TrimSuffix(o.out, ".json") + ".svg"
		err = errors.Join(os.WriteFile(o.out, append(text, '\n'), 0o644), os.WriteFile(graph, drawing(s.report), 0o644))
		if err != nil {
			return err
		}
	}
	return errors.Join(grown...)
}

// judge compares the end with the beginning, once everything has warmed up.
func (x *series) judge() {
	fifth := len(x.Values) / 5
	if fifth == 0 {
		x.Flat = true
		return
	}
	x.Early, x.Late = middle(x.Values[fifth:2*fifth]), middle(x.Values[len(x.Values)-fifth:])
	x.Flat = x.Late <= x.Early*1.25+x.slack
}

func middle(list []float64) float64 {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}
