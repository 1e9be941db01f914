package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract/schema"
	"dbrunner/contract/schema/schematest"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/jobs"
)

// caseFile is what every client has to do alike; its README explains the steps.
const caseFile = repository + "/contract/cases/cases.json"

type clientCase struct {
	Name  string     `json:"name"`
	Steps []caseStep `json:"steps"`
}

type caseStep struct {
	Run, Publish *caseJob
	Wait, Rows   *caseRef
	Recorded     *caseRef
	Cancel       *caseRef
	Running      map[string]any
	Seconds      float64
	Healthy      *caseJob
	Do           string
	Meanwhile    []string
	Expect       any
	Refused, As  string
	Says         string
	Except       map[string]string
}

type caseJob struct {
	Kind, ID, Database string
	Queue              string
	Body               map[string]any
	Wait               float64
}

type caseRef struct{ ID string }

// refusal is why a client has no result, in the words of the cases.
type refusal string

func (r refusal) Error() string { return string(r) }

// caseClient is a client under test, as one NATS user.
type caseClient interface {
	run(job *caseJob) (any, error)
	publish(job *caseJob) error
	wait(job *caseJob) (any, error)
	rows(job *caseJob) (any, error)
	recorded(id string) (any, error)
	cancel(id string) (any, error)
	running() ([]map[string]any, error)
	healthy(limit time.Duration) error
}

// installation is what the cases run in.
type installation struct {
	t      *testing.T
	node   *bustest.Node
	folder string
	runner *process
	jobs   map[string]*caseJob

	mu      sync.Mutex
	checked map[string]int // messages by their schema
	wrong   []string
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	folder := t.TempDir()
	page, err := os.ReadFile(filepath.Join(repository, "docs", "security.md"))
	require.NoError(t, err)
	rights := regexp.MustCompile("(?s)FLOW_RIGHTS = {.*?\n}\n").Find(page)
	require.NotEmpty(t, rights)
	file := filepath.Join(folder, "nats.conf")
	text := string(rights) + "authorization { users = [{user: admin, password: admin}, {user: flow, password: flow, permissions: $FLOW_RIGHTS}] }"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	i := &installation{t: t, node: bustest.Server(t, bustest.Users(opts.Users...)), folder: folder, jobs: map[string]*caseJob{}, checked: map[string]int{}}
	catalog, err := filepath.Abs(filepath.Join(repository, "contract", "cases", "catalog"))
	require.NoError(t, err)
	for _, user := range []string{"admin", "flow"} {
		text := fmt.Sprintf("nats: {urls: [%s], user: %s, password: %s}\n", i.node.ClientURL(), user, user)
		if user == "admin" {
			text += "instance: r1\ntopology: {ack_wait: 2s}\ndatabases: {shop: {type: sqlite, connection_string: " + filepath.Join(folder, "shop.db") +
				", kinds: [" + strings.Join(jobs.Kinds(), ", ") + "], catalog: {folder: " + catalog + "}, queues: {bulk: {}}}}\n"
		}
		require.NoError(t, os.WriteFile(i.config(user), []byte(text), 0o600))
	}
	i.validate()
	i.do("start_runner")
	return i
}

// validate holds what is published against the schemas.
func (i *installation) validate() {
	compiled, nc := map[string]*jsonschema.Schema{}, i.connect("admin")
	for _, name := range schema.Names() {
		compiled[name] = schematest.Named(i.t, name)
	}
	// Of jobs only what a stream takes: with a subscriber, no message is refused for want of a stream.
	for _, what := range []string{"jobs.shop", "queues.shop.bulk", "results", "replies", "health", "dead", "audit"} {
		_, err := nc.Subscribe("dbrunner."+what+".>", func(m *nats.Msg) {
			name, value := schemaOf(m)
			err := fmt.Errorf("no schema %s", name)
			if s := compiled[name]; s != nil {
				err = s.Validate(value)
			}
			i.mu.Lock()
			defer i.mu.Unlock()
			i.checked[name]++
			if err != nil {
				i.wrong = append(i.wrong, m.Subject+": "+err.Error())
			}
		})
		require.NoError(i.t, err)
	}
}

// schemaOf returns the name of a message's schema, and what that describes.
func schemaOf(m *nats.Msg) (string, any) {
	value, _ := jsonschema.UnmarshalJSON(bytes.NewReader(m.Data)) // what is no JSON fits no schema
	tokens := strings.Split(m.Subject, ".")
	switch tokens[1] {
	case "jobs":
		return "job-" + tokens[3], value
	case "queues":
		return "job-" + tokens[4], value
	case "results", "replies":
		return "result", value
	case "health":
		return "heartbeat-" + tokens[2], value
	case "dead":
		headers := map[string]any{}
		for name := range m.Header {
			headers[name] = m.Header.Get(name)
		}
		return "dead-letter-headers", headers
	}
	return tokens[1], value
}

func (i *installation) config(user string) string { return filepath.Join(i.folder, user+".yaml") }

func (i *installation) connect(user string) *nats.Conn {
	i.t.Helper()
	nc, err := nats.Connect(i.node.ClientURL(), nats.UserInfo(user, user), nats.CustomInboxPrefix("_INBOX."+user),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(i.t, err)
	i.t.Cleanup(nc.Close)
	return nc
}

func (i *installation) do(action string) {
	i.t.Helper()
	switch action {
	case "start_runner":
		i.runner = startProcess(i.t, "serve", "--config", i.config("admin"))
		i.runner.await("runner started")
	case "kill_runner":
		require.NoError(i.t, i.runner.cmd.Process.Kill())
		<-i.runner.done
	case "restart_nats":
		i.node.Restart()
	case "pause":
		i.command("pause", "shop", "--by", "ada", "--reason", "upgrade")
	case "resume":
		i.command("resume", "shop", "--by", "ada")
	case "expire_results":
		js, err := jetstream.New(i.connect("admin"))
		require.NoError(i.t, err)
		results, err := js.Stream(i.t.Context(), "DBRUNNER_RESULTS_shop")
		require.NoError(i.t, err)
		require.NoError(i.t, results.Purge(i.t.Context(), jetstream.WithPurgeSubject("dbrunner.results.shop.>")))
	default:
		require.FailNow(i.t, "no such action", action)
	}
}

// command runs a command of an operator.
func (i *installation) command(args ...string) {
	i.t.Helper()
	var out, errOut bytes.Buffer
	code := run(i.t.Context(), append(args, "--config", i.config("admin")), strings.NewReader(""), &out, &errOut)
	require.Equal(i.t, exitOK, code, "%s%s", out.String(), errOut.String())
}

// TestCases runs the cases of the contract with the Go client and with the command line.
func TestCases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(caseFile)
	require.NoError(t, err)
	var cases []clientCase
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&cases))
	require.Greater(t, len(cases), 10)
	for name, open := range map[string]func(*installation, string) caseClient{
		"go":  func(i *installation, user string) caseClient { return newGoCases(i, user) },
		"cli": func(i *installation, user string) caseClient { return &cliCases{i, user} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t)
			for _, c := range cases {
				for n := range c.Steps {
					step := &c.Steps[n]
					if step.Except[name] == "" {
						before := i.lastConnection()
						i.carryOut(open(i, cmp.Or(step.As, "admin")), step, before, fmt.Sprintf("%s, step %d", c.Name, n+1))
					}
				}
			}
			require.Equal(t, exitOK, i.runner.terminate(), "%s", i.runner.output())
			i.mu.Lock()
			defer i.mu.Unlock()
			for _, name := range []string{"result", "heartbeat-runner", "heartbeat-database", "dead-letter-headers", "audit", "job-call", "job-query"} {
				require.NotZero(t, i.checked[name], name)
			}
			require.Len(t, i.wrong, 1, "the one body that is rejected for its keys: %s", i.wrong)
			require.Contains(t, i.wrong[0], "'sqll'")
		})
	}
}

// lastConnection returns the number of the last connection to NATS that is open.
func (i *installation) lastConnection() uint64 {
	i.t.Helper()
	open, err := i.node.Server().Connz(&server.ConnzOptions{})
	require.NoError(i.t, err)
	last := uint64(0)
	for _, c := range open.Conns {
		last = max(last, c.Cid)
	}
	return last
}

// awaitConnection waits until a client that connected after that connection works: what happens
// meanwhile is to meet a client that waits, not one that connects.
func (i *installation) awaitConnection(before uint64, about string) {
	i.t.Helper()
	require.Eventually(i.t, func() bool {
		open, err := i.node.Server().Connz(&server.ConnzOptions{})
		return err == nil && slices.ContainsFunc(open.Conns, func(c *server.ConnInfo) bool { return c.Cid > before && c.NumSubs > 0 })
	}, testTimeout, pollEvery, about)
}

// carryOut does a step and compares its outcome with what is expected; before is the last connection before the
// client's own.
func (i *installation) carryOut(c caseClient, s *caseStep, before uint64, about string) {
	i.t.Helper()
	var got any
	var err error
	switch {
	case s.Do != "":
		i.do(s.Do)
	case s.Run != nil:
		i.jobs[s.Run.ID] = firstOf(i.jobs[s.Run.ID], s.Run)
		got, err = c.run(s.Run)
	case s.Publish != nil:
		i.jobs[s.Publish.ID] = s.Publish
		err = c.publish(s.Publish)
	case s.Wait != nil:
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err = c.wait(i.jobs[s.Wait.ID])
		}()
		if len(s.Meanwhile) > 0 {
			i.awaitConnection(before, about)
		}
		for _, action := range s.Meanwhile {
			i.do(action)
		}
		<-done
	case s.Rows != nil:
		got, err = c.rows(i.jobs[s.Rows.ID])
	case s.Recorded != nil:
		got, err = c.recorded(s.Recorded.ID)
	case s.Cancel != nil:
		got, err = c.cancel(s.Cancel.ID)
	case s.Healthy != nil:
		err = c.healthy(s.Healthy.limit())
	case s.Running != nil:
		require.Eventually(i.t, func() bool {
			jobs, err := c.running()
			return err == nil && slices.ContainsFunc(jobs, func(job map[string]any) bool {
				seconds, _ := job["seconds"].(json.Number)
				age, _ := seconds.Float64()
				return age >= s.Seconds && differences("", plain(s.Running), job) == nil
			})
		}, testTimeout, pollEvery, about)
	default:
		require.FailNow(i.t, "no such step", about)
	}
	if s.Refused != "" {
		var why refusal
		require.ErrorAs(i.t, err, &why, about)
		require.Equal(i.t, refusal(s.Refused), why, about)
		require.ErrorContains(i.t, err, s.Says, about)
		return
	}
	require.NoError(i.t, err, about)
	require.Empty(i.t, differences("", plain(s.Expect), plain(got)), "%s: %s", about, text(got))
}

// firstOf keeps the first job of an id: waiting again asks for that.
func firstOf(first, second *caseJob) *caseJob {
	if first != nil {
		return first
	}
	return second
}

// plain is a value as JSON decodes it, numbers with all digits.
func plain(v any) any {
	var out any
	decoder := json.NewDecoder(bytes.NewReader(text(v)))
	decoder.UseNumber()
	if err := decoder.Decode(&out); err != nil {
		return err
	}
	return out
}

// text is a value as JSON.
func text(v any) []byte {
	encoded, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	return encoded
}

// differences lists where a value is not as expected.
func differences(path string, expected, got any) []string {
	switch e := expected.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{path + " is no object"}
		}
		var out []string
		for key, value := range e {
			out = append(out, differences(path+"."+key, value, g[key])...)
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(e) {
			return []string{fmt.Sprintf("%s has not %d elements", path, len(e))}
		}
		var out []string
		for i := range e {
			out = append(out, differences(fmt.Sprintf("%s[%d]", path, i), e[i], g[i])...)
		}
		return out
	}
	if !reflect.DeepEqual(expected, got) && path != "" {
		return []string{fmt.Sprintf("%s is %v, not %v", path, got, expected)}
	}
	return nil
}

func (j *caseJob) body() []byte {
	body, err := json.Marshal(j.Body)
	if err != nil {
		return nil
	}
	return body
}

func (j *caseJob) database() string { return cmp.Or(j.Database, "shop") }

func (j *caseJob) limit() time.Duration {
	if j.Wait > 0 {
		return time.Duration(j.Wait * float64(time.Second))
	}
	return testTimeout
}

// lines summarizes the lines of an NDJSON file.
func lines(text []byte) any {
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return map[string]any{"count": len(all), "first": json.RawMessage(all[0]), "last": json.RawMessage(all[len(all)-1])}
}

// goCases is the Go client.
type goCases struct {
	*client.Client
	t *testing.T
}

func newGoCases(i *installation, user string) *goCases {
	c, err := client.New(i.connect(user), client.Options{})
	require.NoError(i.t, err)
	return &goCases{c, i.t}
}

// words puts an error into the words of the cases.
func (g *goCases) words(err error) error {
	switch {
	case errors.As(err, new(*client.NotHealthyError)):
		return fmt.Errorf("%w: %w", refusal("not_healthy"), err)
	case errors.Is(err, client.ErrDenied):
		return refusal("denied")
	case errors.Is(err, client.ErrNoStream):
		return refusal("no_stream")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, client.ErrNoResult):
		return refusal("no_result_yet")
	}
	return err
}

func (g *goCases) run(job *caseJob) (any, error) {
	if err := g.publish(job); err != nil {
		return nil, err
	}
	return g.wait(job)
}

func (g *goCases) publish(job *caseJob) error {
	body := map[string]any{"id": job.ID}
	for key, value := range job.Body {
		body[key] = value
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), testTimeout)
	defer cancel()
	kind, name, _ := strings.Cut(job.Kind, ".")
	_, err = g.Submit(ctx, &client.Job{Database: job.database(), Queue: job.Queue, Kind: kind, Name: name, ID: job.ID, Body: text})
	return g.words(err)
}

func (g *goCases) wait(job *caseJob) (any, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), job.limit())
	defer cancel()
	r, err := g.Await(ctx, job.database(), job.ID)
	if err != nil {
		return nil, g.words(err)
	}
	return json.RawMessage(r.Body), nil
}

func (g *goCases) rows(job *caseJob) (any, error) {
	r, err := g.Result(g.t.Context(), job.database(), job.ID)
	if err != nil {
		return nil, g.words(err)
	}
	var text bytes.Buffer
	if err := g.Rows(g.t.Context(), r.Object, &text); err != nil {
		return nil, err
	}
	return lines(text.Bytes()), nil
}

func (g *goCases) recorded(id string) (any, error) {
	r, err := g.RecordedResult(g.t.Context(), "shop", id)
	if err != nil {
		return nil, g.words(err)
	}
	return json.RawMessage(r.Body), nil
}

func (g *goCases) cancel(id string) (any, error) {
	return g.Cancel(g.t.Context(), "shop", id, client.CancelOptions{Wait: testTimeout / 2})
}

func (g *goCases) healthy(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), limit)
	defer cancel()
	_, err := g.AwaitHealthy(ctx, "shop", nil)
	return g.words(err)
}

func (g *goCases) running() ([]map[string]any, error) {
	found, err := g.Running(g.t.Context(), client.RunningOptions{Databases: []string{"shop"}, Wait: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	var jobs []map[string]any
	for i := range found.Jobs {
		jobs = append(jobs, plain(found.Jobs[i]).(map[string]any))
	}
	return jobs, nil
}

// cliCases is the command line.
type cliCases struct {
	*installation
	user string
}

// command runs a client command and puts its failure into the words of the cases.
func (c *cliCases) command(stdin string, args ...string) (outcome, error) {
	var out, errOut bytes.Buffer
	args = append(args, "--config", c.config(c.user), "--inbox-prefix", "_INBOX."+c.user)
	code := run(c.t.Context(), args, strings.NewReader(stdin), &out, &errOut)
	got := outcome{code: code, out: out.String(), err: errOut.String()}
	switch {
	case strings.Contains(got.err, client.ErrDenied.Error()):
		return got, refusal("denied")
	case strings.Contains(got.err, client.ErrNoStream.Error()):
		return got, refusal("no_stream")
	case strings.Contains(got.err, "belongs to a different request"):
		return got, refusal("job_id_reused")
	case strings.Contains(got.err, "not ready within"):
		return got, fmt.Errorf("%w: %s", refusal("not_healthy"), got.err)
	case code == exitTimeout && got.out == "", strings.Contains(got.err, "the ledger has none either"):
		return got, refusal("no_result_yet")
	case code == exitFailure || code == exitUsage:
		return got, errors.New(got.err)
	}
	return got, nil
}

func (c *cliCases) submit(job *caseJob, flags ...string) (outcome, error) {
	args := append([]string{"submit", "--database", job.database(), "--kind", job.Kind, "--id", job.ID, "--file", "-", "--json", "--queue", job.Queue}, flags...)
	return c.command(string(job.body()), args...)
}

func (c *cliCases) run(job *caseJob) (any, error) {
	got, err := c.submit(job, "--timeout", job.limit().String())
	return json.RawMessage(got.out), err
}

func (c *cliCases) publish(job *caseJob) error {
	_, err := c.submit(job, "--no-wait")
	return err
}

// wait submits the job again: there is no other command for it, and it has no second effect.
func (c *cliCases) wait(job *caseJob) (any, error) {
	again := *job
	again.Wait = 0
	return c.run(&again)
}

func (c *cliCases) rows(job *caseJob) (any, error) {
	got, err := c.command("", "result", "get", job.database(), job.ID, "--output", "-", "--format", "ndjson")
	if err != nil {
		return nil, err
	}
	return lines([]byte(got.out)), nil
}

func (c *cliCases) recorded(id string) (any, error) {
	got, err := c.command("", "result", "get", "shop", id, "--json")
	return json.RawMessage(got.out), err
}

func (c *cliCases) cancel(id string) (any, error) {
	got, err := c.command("", "cancel", "shop", id, "--json", "--wait", (testTimeout / 2).String())
	return json.RawMessage(got.out), err
}

func (c *cliCases) healthy(limit time.Duration) error {
	_, err := c.command("", "wait", "shop", "--accept", "degraded", "--timeout", limit.String())
	return err
}

func (c *cliCases) running() ([]map[string]any, error) {
	got, err := c.command("", "ps", "shop", "--json", "--wait", "5s")
	if err != nil {
		return nil, err
	}
	var found struct{ Jobs []map[string]any }
	decoder := json.NewDecoder(strings.NewReader(got.out))
	decoder.UseNumber()
	err = decoder.Decode(&found)
	return found.Jobs, err
}
