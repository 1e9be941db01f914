package ui_test

import (
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/ui"
)

// inBrowserHostile shows texts of others with markup, changes of direction and a length of 1 MB, also those that the stream brings: no script runs, no
// element comes from them, and the page is not wider than a phone.
func inBrowserHostile(t *testing.T, c *chromium, _ *world, _ *site) {
	w := worldOfUsers(t)
	const evil = `</bdi></td><script>hacked=1</script><img src=x onerror=hacked=2><svg onload=hacked=3>"'` + "\u202e\u2066"
	long := strings.Repeat("W", 1<<17) + evil
	beat := contract.RunnerHeartbeat{Version: 1, Instance: evil, Build: evil, Host: long, State: contract.RunnerRunning, At: time.Now(), StartedAt: time.Now(), Interval: 3600, Denied: []string{evil}}
	w.publish("dbrunner.health.runner.node1-1", beat)
	w.publish("dbrunner.health.database.shop.node1-1", contract.DatabaseHeartbeat{
		Version: 1, Database: "shop", Engine: "postgres", Instance: evil, RunnerState: contract.RunnerRunning, At: time.Now(), Interval: 3600,
		Condition: contract.Condition{State: contract.DatabaseDown, Reason: long}, Health: &contract.Health{Verdict: contract.Unhealthy, Reasons: []string{evil, long}},
		Pauses: []contract.ActivePause{{Key: "pause.shop", Reason: evil, By: evil}},
	})
	w.schedule("jobs.shop.query.evil", `{"cron":"0 0 * * *","description":"</th><script>hacked=4</script>\u202e","time_zone":"<b>","job":{"sql":"SELECT 1"}}`)
	dead := func(id string) {
		_, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "dbrunner.dead.shop.query.s1_" + id, Header: nats.Header{
			"Dbrunner-Job-Id": {id + evil}, "Dbrunner-Reason": {evil}, "Dbrunner-Code": {evil}, "Dbrunner-Message": {evil + strings.Repeat("W", 50_000)}, "Dbrunner-Header-Dbrunner-Redrive-Of": {evil},
		}})
		require.NoError(t, err)
	}
	result := map[string]any{
		"version": 1, "job_id": "evil", "database": "shop", "kind": evil, "status": "failed", "runner": evil, "finished_at": time.Now().UTC(), "labels": map[string]string{evil: long},
		"error": map[string]any{"code": evil, "message": long}, "columns": []map[string]string{{"name": evil, "type": evil}}, "rows": [][]string{{evil}, {strings.Repeat("W", 1<<17)}}, "row_count": 2,
	}
	w.publish("dbrunner.results.shop.evil", result)
	dead("a")
	s := w.open(t, ui.Options{Write: true, ShowRows: true, Environment: evil}, user("admin"))
	tab := c.profile(t).tab(t)
	tab.size(390, 844)
	paths := map[string]string{
		"/": "NATS refuses it", "/db/shop": "No runner answers", "/db/shop/jobs": "of the newest", "/db/shop/job/evil": "Rows of statement", "/dead": "in the last hour", "/dead?list=1": "match",
		"/db/" + strings.Repeat("W", 64): "No runner has reported", "/db/shop/job/" + strings.Repeat("W", 100): "No stored result",
		"/db/shop/jobs?label=" + url.QueryEscape(evil): "of the newest", "/dead/redrive?name=shop.query.s1_a": "Did it take effect?", "/db/shop/job/" + strings.Repeat("W", 99) + "/cancel": "Cancel the job",
	}
	for path, text := range paths {
		tab.open(s.url + path)
		tab.shows(text)
		tab.harmless(path)
	}
	tab.open(s.url + "/dead?list=1")
	tab.shows("1 match")
	tab.until(`document.getElementById("age").textContent === "live"`)
	dead("b")
	tab.shows("2 match", `b</bdi></td><script>hacked=1</script>`, `\u202e`)
	tab.harmless("the stream")
	tab.calm(s.url)
}

// harmless holds that nothing of a text of others has become an element, and that nothing is wider than the phone.
func (b *tab) harmless(what string) {
	b.t.Helper()
	require.Equal(b.t, "0 0 undefined", b.text(`document.querySelectorAll("img, svg, iframe, object, main i, main u").length + " " + `+
		`[...document.scripts].filter((s) => !s.src.endsWith("/static/app.js")).length + " " + typeof hacked`), what)
	require.NotRegexp(b.t, "[\u202e\u2066]", b.text("document.documentElement.innerHTML"), what)
	require.Equal(b.t, "390", b.text("document.documentElement.scrollWidth"), "%s: the page is wider than a phone: %s", what, lazy(func() string {
		return b.text(`[...document.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > 390 && !e.closest(".scroll")).map((e) => e.outerHTML.slice(0, 100)).join("\n")`)
	}))
}

// inBrowserAttacked opens sites of others in the browser that also has the page. They know its address and even its token: they cannot act, read it, show
// it in a frame, or make it work; nor under a name that they have bound to its address.
func inBrowserAttacked(t *testing.T, c *chromium, w *world, s *site) {
	token := s.token()
	require.NotEmpty(t, token)
	form := fmt.Sprintf(`<form method=post action="%s/db/reports/pause"><input name=why value=evil><input name=token value="%s"></form><script>document.forms[0].submit()</script>`, s.url, token[0])
	frames := fmt.Sprintf(`<iframe id=f src="%s/db/reports/pause"></iframe>evil`, s.url)
	evil := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(out, map[string]string{"/form": form, "/frames": frames}[r.URL.Path]) // the test shows it
	}))
	t.Cleanup(evil.Close)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(evil.URL, "http://"))
	require.NoError(t, err)
	_, own, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	tab := c.profile(t).tab(t)
	for _, site := range []string{evil.URL, "http://evil.example:" + port} { // another port of this machine, and another site
		tab.open(site + "/form")
		tab.until(`location.href.startsWith("` + s.url + `")`)
		tab.shows("cross-origin request")

		tab.open(site + "/frames")
		tab.shows("evil")
		got := func(call string) string {
			return tab.awaited(`(async () => { try { ` + call + ` } catch (e) { return e.name } })()`)
		}
		require.Equal(t, "TypeError", got(`return (await fetch("`+s.url+`/db/reports/pause")).status`), "it reads the form")
		require.Equal(t, "TypeError", got(`return (await fetch("`+s.url+`/events?page=/")).status`), "it reads the stream")
		require.Equal(t, "TypeError", got(`return (await fetch("`+s.url+`/db/reports/pause", {method: "POST", mode: "no-cors", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "why=evil&token=`+token[0]+`"})).type`))
		require.Equal(t, "error", got(`return await new Promise((done) => { const i = new Image(); i.onload = () => done("load"); i.onerror = () => done("error"); i.src = "`+s.url+`/static/icon.svg" })`))
		require.NotEqual(t, "true", got(`const f = document.getElementById("f").contentDocument; return String(f !== null && f.forms.length > 0)`))
	}
	rebound := "http://rebound.example:" + own
	tab.open(rebound + "/db/reports/pause")
	tab.shows("This page is not reached under this name")
	require.Equal(t, "421 421", tab.awaited(`(async () => (await fetch("/db/reports/pause")).status + " " + (await fetch("/db/reports/pause", {method: "POST", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "why=evil&token=`+token[0]+`"})).status)()`))

	bucket, err := w.js.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	if pause, err := bucket.Get(t.Context(), "pause.reports"); err == nil { // another part of this test pauses it, too
		require.NotContains(t, string(pause.Value()), "evil")
	}
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_AUDIT")
	require.NoError(t, err)
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	entries, err := consumer.FetchNoWait(100)
	require.NoError(t, err)
	for m := range entries.Messages() {
		require.NotContains(t, string(m.Data()), "evil")
	}
}

// awaited is the text that a promise of the page comes to.
func (b *tab) awaited(expression string) (text string) {
	b.t.Helper()
	require.NoError(b.t, b.eval(expression, &text))
	return text
}

// inBrowserHidden: a tab that is not seen holds no stream, and gets one when it is seen again.
func inBrowserHidden(t *testing.T, c *chromium, w *world, _ *site) {
	s := w.open(t, ui.Options{})
	tab := c.profile(t).tab(t)
	tab.open(s.url + "/")
	tab.shows("2 up", "live")
	streams := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return s.server.OpenStreams() == n }, testTimeout, 20*time.Millisecond)
	}
	hide := func(hidden string) {
		require.NoError(t, tab.eval(`Object.defineProperty(document, "hidden", {value: `+hidden+`, configurable: true}); document.dispatchEvent(new Event("visibilitychange"))`, new(bool)))
	}
	streams(1)
	hide("true")
	streams(0)
	hide("false")
	streams(1)
	tab.must("Page.navigate", map[string]any{"url": "about:blank"})
	streams(0)
}

// TestRequests that a browser's own page does not make.
func TestRequests(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	s := w.open(t, ui.Options{Write: true, UserHeader: "X-User"}, user("admin"))
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	for path, status := range map[string]int{"/": 200, "/events?page=/": 200, "/static/app.js": 200, "/db/shop/pause": 200, "/nothing": 404} {
		got := s.do(http.MethodHead, path, nil)
		require.Equal(t, status, got.status, path)
		require.Empty(t, got.body)
	}
	require.Zero(t, s.server.OpenStreams(), "HEAD holds no stream")
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace, "PURGE"} {
		require.Equal(t, http.StatusMethodNotAllowed, s.do(method, "/db/shop/pause", nil).status, method)
	}
	for _, path := range []string{"/db/shop/approve", "/db/shop/job/a/approve", "/db/shop/migrate", "/db/shop/sql", "/dead/purge", "/dead/rm", "/db/shop/limits"} {
		require.Equal(t, http.StatusNotFound, s.get(path).status, path)
		require.Equal(t, http.StatusMethodNotAllowed, s.do(http.MethodPost, path, url.Values{"token": s.token()}).status, path)
	}
	for _, path := range []string{"/static/../server.go", "/static/%2e%2e/server.go", "/static/..%5c..%5cetc", "/static/", "/static//etc/passwd", "/db/../dead/", "//evil.example/", "/db/shop/job/%00", "/db/shop/job/..", "/db/" + strings.Repeat("a", 5000)} {
		require.Contains(t, []int{http.StatusNotFound, http.StatusTemporaryRedirect, http.StatusMovedPermanently, http.StatusBadRequest}, s.get(path).status, path)
		require.False(t, strings.HasPrefix(s.get(path).header.Get("Location"), "//"), "%s: it leads elsewhere", path)
	}
	long, err := http.Get(s.url + "/db/shop/jobs?label=" + strings.Repeat("x", 64<<10)) //nolint:noctx // a test's; it may be cut off before it is sent
	if err == nil {
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, long.StatusCode)
		require.NoError(t, long.Body.Close())
	}
	require.Equal(t, http.StatusOK, s.get("/db/shop/jobs?label="+strings.Repeat("x", 16<<10)+"&"+strings.Repeat("a=b&", 2000)).status)

	for _, mode := range []string{"no-cors", "cors", "websocket"} { // an image of another site
		for _, site := range []string{"cross-site", "same-site"} {
			got := s.do(http.MethodGet, "/", nil, set("Sec-Fetch-Site", site), set("Sec-Fetch-Mode", mode))
			require.Equal(t, http.StatusForbidden, got.status)
		}
	}
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/", nil, set("Sec-Fetch-Site", "cross-site"), set("Sec-Fetch-Mode", "navigate")).status, "a link")

	form := url.Values{"why": {"x"}, "token": s.token()}
	pause := func(change ...func(*http.Request)) answer {
		return s.do(http.MethodPost, "/db/shop/pause", form, change...)
	}
	for _, names := range [][]string{nil, {""}, {" "}, {"eve", "ola"}} { // a client's header beside the proxy's
		got := pause(set("X-User", names...))
		require.Equal(t, http.StatusConflict, got.status, "%q", names)
		require.Contains(t, plain(got.body), "does not name one user")
	}
	require.Equal(t, http.StatusConflict, pause(set("X-User", strings.Repeat("o", 5000))).status)
	require.Equal(t, http.StatusSeeOther, pause(set("X-User", " ola <b>")).status)
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"by":"ola \u003cb\u003e"`)
}

// TestManyRequests: made-up addresses take no memory for long, and tabs beyond a number get no streams of their own.
func TestManyRequests(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	s := w.open(t, ui.Options{}, user("admin"))
	ask := s.server.Handler()
	for i := range 3 * ui.MostCells {
		r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/dead?code=%d", i), nil)
		r.Host = "localhost"
		ask.ServeHTTP(httptest.NewRecorder(), r)
	}
	require.LessOrEqual(t, s.server.Cells(), ui.MostCells)
	require.GreaterOrEqual(t, s.server.Cells(), ui.MostCells/2)

	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	for range 200 { // each is another browser
		s.stream(ctx, "/dead")
	}
	require.Equal(t, ui.MostStreams, s.server.OpenStreams())
	s.shows("/dead", "No dead letters.")
	next := s.stream(ctx, "/dead")
	for event := ""; event != "panel"; { // it gets what there is
		event, _ = next()
	}
}

// TestSlowClients: who sends a request slowly, or reads no answer, does not hold the page up, and is cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := newWorld(t).open(t, ui.Options{})
	var slow []net.Conn
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")) //nolint:noctx // a test's
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		require.NoError(t, err)
		slow = append(slow, conn)
	}
	s.shows("/nothing", "There is nothing at this address")
	for _, conn := range slow {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(testTimeout)))
		_, err := io.Copy(io.Discard, conn)
		require.NoError(t, err, "the page closes it")
	}
}

// TestNothingSecret: no screen has the SQL text, the parameters or the rows of a job, or the password of a database.
func TestNothingSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	w.submit("shop", "query", "read", `{"id":"read","sql":"SELECT :a AS a, 'in-the-sql' AS b","params":{"a":"in-a-param"}}`)
	w.submit("shop", "query", "wrong", `{"id":"wrong","sql":"SELECT 'in-the-sql', nowhere(:a)","params":{"a":"in-a-param"}}`)
	w.submit("shop", "query", "slow", `{"id":"slow","timeout":"10m","sql":"SELECT 'in-the-sql' AS b FROM (`+long+`)"}`)
	w.submit("billing", "query", "waits", sql("waits", "SELECT 'in-the-sql'"))
	w.schedule("jobs.shop.query.nightly", `{"cron":"0 0 * * *","job":{"sql":"SELECT 'in-the-sql'","params":{"a":"in-a-param"}}}`)
	w.dryRun("close-7")
	w.awaitResult("shop", "read")
	w.awaitDead(1)
	s := w.open(t, ui.Options{Write: true})
	s.shows("/db/shop", "slow", "nightly")
	s.shows("/", "billing unhealthy")
	s.shows("/dead?list=1", "wrong")
	name := s.firstDead("/dead?list=1")
	for _, path := range []string{
		"/", "/db/shop", "/db/billing", "/db/shop/jobs", "/db/shop/job/read", "/db/shop/job/wrong", "/db/shop/job/slow", "/db/shop/job/close-7", "/dead", "/dead?list=1", "/dead/redrive?name=" + name,
		"/db/shop/schedule/jobs.shop.query.nightly/run", "/db/shop/job/slow/cancel", "/db/shop/job/read/result.json",
	} {
		body := html.UnescapeString(s.get(path).body)
		for _, secret := range []string{"in-the-sql", "in-a-param", "secret-note", "s3cr3t-word"} {
			require.NotContains(t, body, secret, path)
		}
	}
	s.outcome(s.act("/db/shop/job/slow/cancel", nil), "slow is cancelled")
}
