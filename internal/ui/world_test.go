package ui_test

import (
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
	"dbrunner/internal/ui"
)

// testTimeout bounds everything that a test waits for.
const testTimeout = 90 * time.Second

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

// world is a fleet: a NATS server, two runners, and three databases, of which one is down.
type world struct {
	t    testing.TB
	node *bustest.Node
	nc   *nats.Conn
	js   jetstream.JetStream
}

func newWorld(t *testing.T) *world {
	t.Helper()
	node := bustest.Server(t)
	nc, js := bustest.Plain(t, node.ClientURL())
	return &world{t: t, node: node, nc: nc, js: js}
}

// orderByID is a statement of the catalog of shop.
const orderByID = `description: One order
params:
  id: {type: integer, schema: {type: integer}, description: its number}
  since: {type: text, schema: {type: string}, default: "2026-01-01"}
sql: SELECT :id AS id, :since AS since
max_rows: 10
timeout: 5s
`

// fleet starts the runners.
func (w *world) fleet(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	calls := filepath.Join(dir, "catalog")
	require.NoError(t, os.Mkdir(calls, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(calls, "order_by_id.yaml"), []byte(orderByID), 0o600))
	for _, instance := range []string{"node1-1", "node2-1"} {
		cfg := config.Default()
		cfg.Instance = instance
		cfg.NATS.URLs = []string{w.node.ClientURL()}
		cfg.Worker.HeartbeatInterval = time.Second
		for _, name := range []string{"shop", "reports"} {
			d := cfg.Defaults.NewDatabase("sqlite", config.NewSecret(filepath.Join(dir, name+".db")))
			d.Pool.Min, d.Pool.Max = 1, 4
			cfg.Databases[name] = d
		}
		shop := cfg.Databases["shop"]
		shop.Queues = map[string]*config.Queue{"bulk": {Slots: 2, FleetSlots: 3}, "feed": {Ordered: true}}
		shop.Kinds, shop.Catalog.Folder = []string{"query", "transaction", "statement", "call", "dry_run", "approve", "migration", "health"}, calls
		down := cfg.Defaults.NewDatabase("postgres", config.NewSecret("postgres://app:s3cr3t-word@127.0.0.1:1/billing"))
		down.Pool.Min, down.Pool.Max, down.Pool.ConnectTimeout = 0, 4, time.Second
		cfg.Databases["billing"] = down
		require.NoError(t, cfg.Complete(manager.Words()))
		r, err := app.New(app.Options{Config: cfg, Logger: zap.NewNop(), Version: "1.4.0"})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			require.NoError(t, <-done)
		})
		select {
		case <-r.Started():
		case err := <-done:
			require.FailNow(t, "the runner did not start", "%v", err)
		case <-time.After(testTimeout):
			require.FailNow(t, "the runner does not start")
		}
	}
}

// submit publishes a job.
func (w *world) submit(database, kind, id, body string) {
	w.t.Helper()
	_, err := w.js.PublishMsg(context.Background(), &nats.Msg{
		Subject: "dbrunner.jobs." + database + "." + kind, Header: nats.Header{"Nats-Msg-Id": {id}}, Data: []byte(body),
	})
	require.NoError(w.t, err)
}

// schedule stores the record of a schedule.
func (w *world) schedule(key, record string) {
	w.t.Helper()
	bucket, err := w.js.KeyValue(context.Background(), "DBRUNNER_SCHEDULES")
	require.NoError(w.t, err)
	_, err = bucket.PutString(context.Background(), key, record)
	require.NoError(w.t, err)
}

// awaitResult waits until a job has its result.
func (w *world) awaitResult(database, id string) {
	w.t.Helper()
	stream, err := w.js.Stream(context.Background(), "DBRUNNER_RESULTS_"+database)
	require.NoError(w.t, err)
	require.Eventually(w.t, func() bool {
		_, err := stream.GetLastMsgForSubject(context.Background(), "dbrunner.results."+database+"."+id)
		return err == nil
	}, testTimeout, 20*time.Millisecond, id)
}

// awaitDead waits until there are so many dead letters.
func (w *world) awaitDead(n uint64) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		stream, err := w.js.Stream(context.Background(), "DBRUNNER_DEAD")
		return err == nil && stream.CachedInfo().State.Msgs == n
	}, testTimeout, 20*time.Millisecond)
}

// site is a page at a fleet, and a client that calls it.
type site struct {
	t      testing.TB
	url    string
	server *ui.Server
}

// open starts a page as a user of the server.
func (w *world) open(t testing.TB, opts ui.Options, user ...nats.Option) *site {
	t.Helper()
	nc, err := nats.Connect(w.node.ClientURL(), append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, user...)...)
	require.NoError(t, err)
	opts.NATS = nc
	if opts.By == "" {
		opts.By = "ola"
	}
	s, err := ui.New(opts)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		nc.Close()
	})
	return &site{t: t, url: "http://" + listener.Addr().String(), server: s}
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *site) do(method, path string, form url.Values, change ...func(*http.Request)) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(form.Encode()))
	require.NoError(s.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", s.url)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, f := range change {
		f(r)
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: testTimeout}
	defer c.CloseIdleConnections()
	got, err := c.Do(r)
	require.NoError(s.t, err)
	defer func() { _ = got.Body.Close() }()
	body, err := io.ReadAll(got.Body)
	require.NoError(s.t, err)
	return answer{got.StatusCode, got.Header, string(body)}
}

func (s *site) get(path string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, nil)
}

// shows loads a page until it has all texts.
func (s *site) shows(path string, texts ...string) string {
	s.t.Helper()
	var last answer
	for end := time.Now().Add(testTimeout); ; {
		last = s.get(path)
		missing := ""
		for _, text := range texts {
			if !strings.Contains(plain(last.body), text) {
				missing = text
			}
		}
		if missing == "" {
			require.NotContains(s.t, last.body, "This panel could not be shown")
			return last.body
		}
		require.True(s.t, time.Now().Before(end), "%s does not show %q:\n%s", path, missing, plain(last.body))
		time.Sleep(50 * time.Millisecond) // by the clock: the fleet reports in its own time
	}
}

var (
	tags   = regexp.MustCompile(`<[^>]*>`)
	spaces = regexp.MustCompile(`\s+`)
)

// plain is the text of a page.
func plain(page string) string {
	if i := strings.Index(page, "<body"); i >= 0 {
		page = page[i:]
	}
	return spaces.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(page, " ")), " ")
}

var fields = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// act fills in a form and sends it.
func (s *site) act(path string, fill url.Values) answer {
	s.t.Helper()
	form := url.Values{}
	page := s.get(path)
	require.Equal(s.t, http.StatusOK, page.status, page.body)
	for _, m := range fields.FindAllStringSubmatch(page.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	for name, values := range fill {
		form[name] = values
	}
	action, _, _ := strings.Cut(path, "?")
	return s.do(http.MethodPost, action, form)
}

// token is what each form of the page has.
func (s *site) token() []string {
	s.t.Helper()
	for _, m := range fields.FindAllStringSubmatch(s.get("/db/shop/pause").body, -1) {
		if m[1] == "token" {
			return []string{m[2]}
		}
	}
	return nil
}

// outcome follows an action to what came out of it.
func (s *site) outcome(a answer, texts ...string) {
	s.t.Helper()
	require.Equal(s.t, http.StatusSeeOther, a.status, plain(a.body))
	s.shows(a.header.Get("Location"), texts...)
}

// audited returns the last audit entry as the stream has it.
func (w *world) audited(subject string) string {
	w.t.Helper()
	stream, err := w.js.Stream(context.Background(), "DBRUNNER_AUDIT")
	require.NoError(w.t, err)
	m, err := stream.GetLastMsgForSubject(context.Background(), subject)
	require.NoError(w.t, err, subject)
	return string(m.Data)
}

func sql(id, text string) string { return fmt.Sprintf(`{"id":%q,"sql":%q}`, id, text) }

// long is a query that runs until it is cancelled.
const long = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000) SELECT count(*) AS n FROM c"
