package ui_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/ui"
	"dbrunner/internal/ui/fleet"
)

// TestScreens shows a real fleet on all screens: a database that is down, a paused one, failed, running and finished jobs.
func TestScreens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Environment: "production", Grafana: "https://grafana.example/d/1"})
	w.submit("shop", "query", "fine", `{"id":"fine","sql":"SELECT 1 AS n, 'hidden-value' AS v","labels":{"order":"4711"}}`)
	w.submit("shop", "query", "wrong", sql("wrong", "SELECT * FROM nowhere"))
	w.submit("shop", "transaction", "pay", `{"id":"pay","statements":[{"sql":"CREATE TABLE t (n INTEGER)"},{"sql":"INSERT INTO t VALUES (1)"}]}`)
	w.submit("shop", "query", "nightly", `{"id":"nightly","timeout":"10m","sql":"`+long+`"}`)
	w.submit("billing", "query", "waits", sql("waits", "SELECT 1 AS n"))
	for _, id := range []string{"fine", "wrong", "pay"} {
		w.awaitResult("shop", id)
	}
	w.awaitDead(1)

	now := s.shows("/", "PRODUCTION", "billing", "unhealthy", "dead letters", "undefined_object ×1", "2 up", "version 1.4.0", "nightly")
	require.Less(t, strings.Index(now, `href="/db/billing"`), strings.Index(now, `href="/db/reports"`), "the worst first")
	require.Contains(t, now, `class="production"`)
	require.Contains(t, plain(now), "read-only")
	require.NotContains(t, now, "/pause", "no action is offered")

	shop := s.shows("/db/shop", "healthy", "sqlite", "2 runners", "work", "nightly", "2 runners answered", "connections", "of at most 8 by 2 runners", "undefined_object")
	require.NotContains(t, shop, "Cancel…")
	s.shows("/db/billing", "unhealthy", "connection", "work 1", "0 / 4", "waits: down")
	job := s.shows("/db/shop/job/fine", "succeeded", "It took effect", "queued", "started", "order=4711", "Rows are hidden")
	require.NotContains(t, job, "hidden-value")
	require.Equal(t, http.StatusNotFound, s.get("/db/shop/job/fine/result.json").status)
	s.shows("/db/shop/job/wrong", "failed", "undefined_object", "nothing of it is there", "Dead letters of this job", "wrong")
	s.shows("/db/shop/job/nowhere", "No stored result", "No runner has this job", "cannot be looked up by id")
	s.shows("/db/shop/job/nightly", "No stored result", "executing")
	s.shows("/db/shop/jobs", "3 of the newest 3 results", "wrong", "undefined_object", "order=4711")
	found := s.shows("/db/shop/jobs?status=failed", "1 of the newest 3 results", "back to")
	require.NotContains(t, found, ">pay<")
	s.shows("/db/shop/jobs?label=order=4711", "1 of the newest 3", "fine")
	s.shows("/db/shop/jobs?kind=transaction&code=none", "0 of the newest 3")
	s.shows("/dead", "undefined_object", "1 in the last hour", "no, and it fails again unless the data changes")
	s.shows("/dead?list=1&db=shop", "1 match", "wrong")
	s.shows("/db/nosuch", "No runner has reported nosuch", "3 other databases")
	require.Equal(t, "/db/shop/job/fine", s.get("/db/shop/job?id=+fine").header.Get("Location"))

	for _, path := range []string{"/nothing", "/db/a.b", "/db/shop/job/a%2Fb", "/db/shop/pause", "/dead/redrive?name=x", "/outcome/x", "/static/..%2fserver.go", "/dead?db=a.b", "/events?page=/nothing", "/events"} {
		require.Equal(t, http.StatusNotFound, s.get(path).status, path)
	}
	w.submit("shop", "query", "end", sql("end", "SELECT 1 AS n"))
	c, err := client.New(w.nc, client.Options{})
	require.NoError(t, err)
	_, err = c.Cancel(t.Context(), "shop", "nightly", client.CancelOptions{Wait: 5 * time.Second})
	require.NoError(t, err)
}

// TestRowsAreShownOnlyWhereTheyShall.
func TestRowsAreShownOnlyWhereTheyShall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{ShowRows: true})
	w.submit("shop", "query", "rows", `{"id":"rows","row_format":"arrays","sql":"SELECT 7 AS n, NULL AS none, 'seen-value' AS v"}`)
	w.awaitResult("shop", "rows")
	s.shows("/db/shop/job/rows", "seen-value", "null", "Download the result")
	got := s.get("/db/shop/job/rows/result.json")
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Contains(t, got.header.Get("Content-Disposition"), "attachment")
	require.Contains(t, got.body, "seen-value")
}

// TestActions does each action end to end, with its audit entry before it.
func TestActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true, Environment: "production"})
	s.shows("/db/shop", "Pause…", "2 runners")
	require.Contains(t, plain(s.get("/db/shop/pause").body), "PRODUCTION Pause the jobs of shop.")
	refused := s.act("/db/shop/pause", url.Values{"why": {" "}})
	require.Equal(t, http.StatusConflict, refused.status)
	require.Contains(t, plain(refused.body), "A reason is needed: nothing was done.")
	s.outcome(s.act("/db/shop/pause", url.Values{"why": {"vacuum orders"}}), "shop is paused", "Confirmed by node1-1, node2-1.")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"by":"ola","tool":"runner ui","action":"pause","database":"shop","reason":"vacuum orders"`)
	s.shows("/", "shop", "paused", "by ola: vacuum orders")
	s.shows("/db/shop", "Resume…", "paused by ola")
	again := s.act("/db/shop/pause", url.Values{"why": {"mine"}})
	require.Equal(t, http.StatusConflict, again.status)
	require.Contains(t, plain(again.body), "It is paused already")

	w.submit("shop", "query", "waiting", sql("waiting", "SELECT 1 AS n"))
	s.shows("/db/shop", "paused 1")
	s.outcome(s.act("/db/shop/resume", nil), "shop is resumed", "Confirmed by")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.resume"), `"before":{"by":"ola","reason":"vacuum orders","revision":"1"}`)
	s.shows("/db/shop/resume", "shop is not paused")
	w.awaitResult("shop", "waiting")

	w.submit("shop", "query", "nightly", `{"id":"nightly","timeout":"10m","sql":"`+long+`"}`)
	s.shows("/db/shop", "nightly", "Cancel…")
	s.outcome(s.act("/db/shop/job/nightly/cancel", url.Values{"why": {"too slow"}}), "nightly is cancelled")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.cancel"), `"targets":["nightly"],"count":1,"reason":"too slow"`)
	s.outcome(s.act("/db/shop/job/never/cancel", nil), "The request is kept")
}

// TestFlow shows queues, schedules and the catalog of a database, and pauses and resumes a queue and a schedule alone, with their audit entries.
func TestFlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true})
	w.schedule("jobs.shop.query.nightly_report", `{"cron":"30 2 * * *","time_zone":"Europe/Berlin","description":"Totals of the day","job":{"sql":"SELECT 1 AS n"}}`)
	w.schedule("jobs.shop.query.often", `{"every":"1s","job":{"sql":"SELECT 1 AS n"}}`)
	w.schedule("jobs.shop.query.wrong", `{"cron":"61 * * * *","job":{"sql":"SELECT 1 AS n"}}`)
	page := s.shows("/db/shop", "queue bulk", "0 / 4", "30 2 * * * (Europe/Berlin) active", "Totals of the day", "every 1s", "settled up to", "wrong query 61 * * * * error",
		"order_by_id One order read_only", "id since?", "max_rows 10, timeout 5s", "1 statement")
	require.Contains(t, page, `<details><summary><time`, "the next five ticks")
	require.Less(t, strings.Index(page, `<th scope="row">wrong`), strings.Index(page, `<th scope="row">often`), "those that need a person first: %s", plain(page))
	s.shows("/db/shop", "job settled up to")
	s.shows("/db/reports", "No schedules.", "No runner has a catalog for it.")

	queue := s.act("/db/shop/queue/bulk/pause", url.Values{"why": {"the reports are due"}})
	s.outcome(queue, "queue bulk of shop is paused", "Confirmed by node1-1, node2-1.")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"targets":["queue bulk"],"count":1,"reason":"the reports are due"`)
	paused := s.shows("/db/shop", "queue bulk is paused by ola: the reports are due", "degraded")
	require.Contains(t, paused, `href="/db/shop/pause"`, "the database itself is not paused")
	require.Contains(t, paused, `href="/db/shop/queue/bulk/resume"`)
	s.outcome(s.act("/db/shop/pause", url.Values{"why": {"all of it"}}), "shop is paused")
	s.outcome(s.act("/db/shop/resume", nil), "shop is resumed", "Confirmed by node1-1, node2-1.")
	s.shows("/db/shop/queue/bulk/resume", "End the pause of queue bulk of shop.", "the reports are due")
	s.outcome(s.act("/db/shop/queue/bulk/resume", nil), "queue bulk of shop is resumed", "Confirmed by node1-1, node2-1.")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.resume"), `"targets":["queue bulk"]`)

	w.publish("dbrunner.queues.shop.feed.transaction", map[string]any{"id": "feed-1", "statements": []map[string]string{{"sql": "INSERT INTO nowhere VALUES (1)"}}})
	w.publish("dbrunner.queues.shop.feed.transaction", map[string]any{"id": "feed-2", "statements": []map[string]string{{"sql": "SELECT 1 AS n"}}})
	s.shows("/db/shop", "queue feed 1 ", "waits for a failed job feed-1 failed undefined_object", "runner resume shop --queue feed --job feed-1")
	s.shows("/", "shop degraded", "the ordered queue feed waits: its job feed-1")

	const key = "jobs.shop.query.often"
	s.outcome(s.act("/db/shop/schedule/"+key+"/pause", url.Values{"why": {"wrong figures"}}), "schedule "+key+" is paused", "Confirmed by")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"targets":["`+key+`"]`)
	s.shows("/db/shop", "paused by ola: wrong figures", "did not fire: ")
	s.outcome(s.act("/db/shop/schedule/"+key+"/resume", nil), "is resumed", "Confirmed by")
	for _, path := range []string{"/db/shop/queue/a.b/pause", "/db/shop/schedule/jobs.reports.query.x/pause", "/db/shop/schedule/nothing/pause", "/db/shop/schedule/jobs.shop.query.nothing/run"} {
		require.Equal(t, http.StatusNotFound, s.get(path).status, path)
	}
}

// TestRunNow publishes the job of a schedule once, however often its form is sent, paused or not, and records it before.
func TestRunNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true})
	const key = "jobs.shop.query.nightly_report"
	w.schedule(key, `{"cron":"30 2 * * *","job":{"id_note":1,"sql":"SELECT 1 AS n"}}`)
	w.schedule("queues.shop.bulk.query.close", `{"cron":"30 2 1 1 *","catch_up":"2h","job":{"sql":"SELECT 1 AS n","labels":{"order":"1"},"expires_in":"1h"}}`)
	w.schedule("jobs.shop.query.wrong", `{"cron":"61 * * * *","job":{"sql":"SELECT 1 AS n"}}`)
	s.shows("/db/shop", "nightly_report query 30 2 * * * error", "close query", "wrong query 61 * * * * error")
	for _, wrong := range []string{key, "jobs.shop.query.wrong"} {
		require.NotContains(t, s.shows("/db/shop/schedule/"+wrong+"/run", "the schedule cannot be used"), "<button")
		require.NotContains(t, s.get("/db/shop").body, wrong+`/run"`)
	}
	const path = "/db/shop/schedule/queues.shop.bulk.query.close/run"
	require.Contains(t, s.get("/db/shop").body, path)
	s.outcome(s.act("/db/shop/schedule/queues.shop.bulk.query.close/pause", url.Values{"why": {"later"}}), "is paused")
	s.shows(path, "Publish the job of the schedule queues.shop.bulk.query.close once, now.", "It is paused by ola: later. The job is published all the same.")
	word := strings.Repeat("a2", 13)
	done := s.act(path, url.Values{"word": {word}, "why": {"month's end"}})
	s.outcome(done, "The job of queues.shop.bulk.query.close is published", "Its id is close-")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.schedule"), `"targets":["queues.shop.bulk.query.close"],"count":1,"reason":"month's end","after":{"change":"run"}`)
	id := regexp.MustCompile(`close-[0-9a-f]{12}-` + word).FindString(s.get(done.header.Get("Location")).body)
	w.awaitResult("shop", id)
	s.shows("/db/shop/job/"+id, "succeeded", "order=1")
	s.outcome(s.act(path, url.Values{"word": {word}}), "is published")
	require.Equal(t, http.StatusConflict, s.act(path, url.Values{"word": {"../x"}}).status)
	s.outcome(s.act(path, nil), "is published")
	s.shows("/db/shop/jobs", "2 of the newest 2 results")
}

// TestRedrive publishes dead letters again: one, all of a cause after its number was typed, and never what may have taken effect.
func TestRedrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true})
	for i := range 5 {
		id := fmt.Sprint("job", i)
		w.submit("shop", "query", id, sql(id, "SELECT * FROM later"))
	}
	w.awaitDead(5)
	dead := func(reason, id string) {
		_, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "dbrunner.dead.shop.transaction.s9_" + id, Data: []byte(`{"id":"` + id + `","statements":[{"sql":"SELECT 1"}]}`), Header: nats.Header{
			"Dbrunner-Job-Id": {id}, "Dbrunner-Reason": {reason}, "Dbrunner-Code": {"outcome_unknown"},
		}})
		require.NoError(t, err)
	}
	dead("unknown", "perhaps")
	dead("result_id_taken", "done")
	page := s.shows("/dead?db=shop", "Redrive 5…", "PERHAPS", "YES: it took effect", "one by one only")
	require.Equal(t, 1, strings.Count(page, "/dead/redrive?"), "unknown jobs are never redriven together")
	unknown := s.do(http.MethodPost, "/dead/redrive", url.Values{"db": {"shop"}, "reason": {"unknown"}, "count": {"1"}, "token": s.token()})
	require.Equal(t, http.StatusConflict, unknown.status, "nor by a forged address")

	_, group, found := strings.Cut(page, `class="button" href="/dead/redrive`)
	require.True(t, found)
	group, _, _ = strings.Cut(group, `"`)
	group = "/dead/redrive" + html.UnescapeString(group)
	require.Contains(t, group, "?code=undefined_object&db=shop&kind=query&reason=failed&upto=", "the page's own link")
	group, _, _ = strings.Cut(group, "&upto=") // those that arrive later, too
	s.shows(group, "Publish 5 jobs of shop again", "Type the number 5 to confirm")
	for _, typed := range []string{"", "4", "all"} {
		wrong := s.act(group, url.Values{"count": {typed}})
		require.Equal(t, http.StatusConflict, wrong.status)
		require.Contains(t, plain(wrong.body), "5 dead letters match now, and another number was typed")
	}
	s.outcome(s.act("/dead/redrive?name="+s.firstDead("/dead?list=1&db=shop&reason=failed"), nil), "1 of 1 published", "_r1")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.redrive"), `"count":1`)
	w.awaitDead(7) // it failed again, under its new id
	w.submit("shop", "transaction", "create", `{"id":"create","statements":[{"sql":"CREATE TABLE later (n INTEGER)"}]}`)
	w.awaitResult("shop", "create")
	s.shows(group, "Publish 5 jobs")
	s.outcome(s.act(group, url.Values{"count": {"5"}}), "5 of 5 published")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.redrive"), `"count":5`)
	w.awaitDead(2)
	s.shows("/dead?db=shop", "2 kept")

	kept := s.act("/dead/redrive?name=shop.transaction.s9_perhaps", nil)
	s.outcome(kept, "0 of 1 published", "it may have taken effect; check the database, then use runner dead redrive --force")
	s.outcome(s.act("/dead/redrive?name=shop.transaction.s9_done", nil), "0 of 1 published", "the job has taken effect")
	w.awaitDead(2)
}

func (s *site) firstDead(path string) string {
	s.t.Helper()
	_, rest, found := strings.Cut(s.shows(path, "Redrive…"), "/dead/redrive?name=")
	require.True(s.t, found)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// TestGuards refuses what another site makes a browser send, and everything under a name that is not the page's.
func TestGuards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.open(t, ui.Options{Write: true, Hosts: []string{"ops.example"}})
	page := s.get("/")
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		require.Equal(t, want, page.header.Get(name))
	}
	policy := page.header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	require.NotRegexp(t, `(?i)<script(?: [^>]*)?>[^<]|style=|onclick|javascript:`, page.body, "nothing is inline")

	for host, status := range map[string]int{
		"evil.example": 421, "evil.example:8090": 421, "localhost.evil.example": 421, "127.0.0.1.nip.io": 421, "": 400,
		"localhost": 200, "localhost:8090": 200, "127.0.0.1": 200, "[::1]:8090": 200, "OPS.example:443": 200,
	} {
		got := s.do(http.MethodGet, "/", nil, func(r *http.Request) { r.Host = host })
		if host == "" {
			continue // the client fills it in
		}
		require.Equal(t, status, got.status, host)
	}
	for _, path := range []string{"/events?page=/", "/db/shop", "/static/app.js", "/db/shop/pause", "/dead?list=1", "/nothing"} {
		require.Equal(t, http.StatusMisdirectedRequest, s.do(http.MethodGet, path, nil, func(r *http.Request) { r.Host = "evil.example" }).status, path)
	}
	rebound := s.do(http.MethodPost, "/db/shop/pause", url.Values{"why": {"x"}}, func(r *http.Request) { r.Host = "evil.example" })
	require.Equal(t, http.StatusMisdirectedRequest, rebound.status)

	form := url.Values{"why": {"x"}}
	for _, m := range fields.FindAllStringSubmatch(s.get("/db/shop/pause").body, -1) {
		form.Set(m[1], m[2])
	}
	forged := func(change func(*http.Request), form url.Values) int {
		return s.do(http.MethodPost, "/db/shop/pause", form, change).status
	}
	require.Equal(t, http.StatusForbidden, forged(func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, form))
	require.Equal(t, http.StatusForbidden, forged(func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", "https://evil.example")
	}, form))
	require.Equal(t, http.StatusForbidden, forged(func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, form), "another port of this machine")
	require.Equal(t, http.StatusForbidden, forged(func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", "null")
	}, form), "a sandboxed frame")
	require.Equal(t, http.StatusForbidden, forged(func(r *http.Request) { r.URL.RawQuery = "token=" + form.Get("token") }, url.Values{"why": {"x"}}), "a token in the address")
	require.Equal(t, http.StatusForbidden, forged(func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, form), "a form without a preflight")
	another := w.open(t, ui.Options{Write: true})
	require.Equal(t, http.StatusForbidden, another.do(http.MethodPost, "/db/shop/pause", form).status, "a token of another process")
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		require.GreaterOrEqual(t, s.do(method, "/db/shop/pause", form).status, 400, method)
	}
	require.Empty(t, page.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, http.StatusForbidden, forged(func(*http.Request) {}, url.Values{"why": {"x"}}), "without the form's token")
	require.Equal(t, http.StatusForbidden, forged(func(*http.Request) {}, url.Values{"why": {"x"}, "token": {"guess"}}))
	require.Equal(t, http.StatusForbidden, forged(func(*http.Request) {}, url.Values{"why": {strings.Repeat("x", 1<<20)}, "token": form["token"]}), "a form has its size")

	readOnly := w.open(t, ui.Options{})
	for _, path := range []string{"/db/shop/pause", "/db/shop/resume", "/db/shop/job/a/cancel", "/db/shop/schedule/jobs.shop.query.a/run", "/dead/redrive"} {
		require.Equal(t, http.StatusNotFound, readOnly.get(path).status, path)
		require.NotEqual(t, http.StatusSeeOther, readOnly.do(http.MethodPost, path, form).status, path)
	}
}

// TestWhoActs: a proxy's header counts only where it was named.
func TestWhoActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	as := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-User", name) }
	}
	pause := func(s *site, name string) answer {
		form := url.Values{"why": {"x"}}
		for _, m := range fields.FindAllStringSubmatch(s.get("/db/shop/pause").body, -1) {
			form.Set(m[1], m[2])
		}
		return s.do(http.MethodPost, "/db/shop/pause", form, as(name))
	}
	plainPage := w.open(t, ui.Options{Write: true, By: "ola"})
	require.Equal(t, http.StatusSeeOther, pause(plainPage, "eve").status)
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"by":"ola"`)
	plainPage.outcome(plainPage.act("/db/shop/resume", nil), "resumed")
	proxied := w.open(t, ui.Options{Write: true, By: "ola", UserHeader: "X-User"})
	require.Equal(t, http.StatusConflict, pause(proxied, "").status, "the proxy names no user")
	require.Equal(t, http.StatusSeeOther, pause(proxied, "eve").status)
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"by":"eve"`)
}

// worldOfUsers is streams without runners, and users who may read none of them, only heartbeats, or everything without recording what they do.
func worldOfUsers(t *testing.T) *world {
	t.Helper()
	allow := func(subjects ...string) *server.Permissions {
		return &server.Permissions{Publish: &server.SubjectPermission{Allow: subjects}}
	}
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "x"},
		&server.User{Username: "none", Password: "x", Permissions: allow("nothing")},
		&server.User{Username: "health", Password: "x", Permissions: allow("$JS.API.STREAM.INFO.DBRUNNER_HEALTH", "$JS.API.DIRECT.GET.DBRUNNER_HEALTH")},
		&server.User{Username: "jobless", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: []string{"dbrunner.jobs.>"}}}},
		&server.User{Username: "silent", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: []string{"dbrunner.audit.>"}}}}))
	nc, js := bustest.Plain(t, node.ClientURL(), user("admin"))
	w := &world{t: t, node: node, nc: nc, js: js}
	for name, subjects := range map[string][]string{
		"DBRUNNER_HEALTH": {"dbrunner.health.>"}, "DBRUNNER_DEAD": {"dbrunner.dead.>"}, "DBRUNNER_AUDIT": {"dbrunner.audit.>"}, "DBRUNNER_RESULTS_shop": {"dbrunner.results.shop.*"},
	} {
		_, err := js.CreateStream(t.Context(), streamConfig(name, subjects...))
		require.NoError(t, err)
	}
	for _, bucket := range []string{"DBRUNNER_STATE", "DBRUNNER_SCHEDULES"} {
		_, err := js.CreateKeyValue(t.Context(), bucketConfig(bucket))
		require.NoError(t, err)
	}
	return w
}

// user connects as a user of worldOfUsers.
func user(name string) nats.Option { return nats.UserInfo(name, "x") }

// TestWithoutPermissions: each panel fails alone, soon, and names the stream that this user may not read. An action that cannot be
// recorded is not done.
func TestWithoutPermissions(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	none := w.open(t, ui.Options{}, user("none"))
	started := time.Now()
	for path, stream := range map[string]string{"/": "DBRUNNER_HEALTH", "/dead": "DBRUNNER_DEAD", "/db/shop/job/a": "DBRUNNER_RESULTS_shop", "/db/shop/jobs": "DBRUNNER_RESULTS_shop"} {
		require.Contains(t, plain(none.get(path).body), "This user may not read "+stream, path)
	}
	require.Less(t, time.Since(started), 10*time.Second)
	some := w.open(t, ui.Options{}, user("health"))
	text := plain(some.get("/").body)
	require.Contains(t, text, "No runner has reported. Has one been started with this namespace (dbrunner) and account?")

	silent := w.open(t, ui.Options{Write: true}, user("silent"))
	denied := silent.act("/db/shop/pause", url.Values{"why": {"x"}})
	require.Equal(t, http.StatusConflict, denied.status)
	require.Contains(t, plain(denied.body), "Nothing was done: NATS does not permit this user to publish dbrunner.audit.database.shop.pause.")
	w.schedule("jobs.shop.query.nightly", `{"every":"1h","job":{"sql":"SELECT 1 AS n"}}`)
	for who, subject := range map[string]string{"silent": "dbrunner.audit.database.shop.schedule", "jobless": "dbrunner.jobs.shop.query"} {
		denied := w.open(t, ui.Options{Write: true}, user(who)).act("/db/shop/schedule/jobs.shop.query.nightly/run", nil)
		require.Equal(t, http.StatusConflict, denied.status)
		require.Contains(t, plain(denied.body), "Nothing was done: NATS does not permit this user to publish "+subject+".")
	}
	bucket, err := w.js.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	_, err = bucket.Get(t.Context(), "pause.shop")
	require.Error(t, err)
}

// TestHostileContent is shown harmlessly: markup, changes of direction, control characters and long texts.
func TestHostileContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{ShowRows: true, Write: true, Environment: "<b>prod</b>"})
	const evil = `<script>alert(1)</script><img src=x onerror=alert(2)>"'` + "\u202egnp.exe\u0007\u2066"
	header := nats.Header{
		"Dbrunner-Job-Id": {evil}, "Dbrunner-Reason": {"failed"}, "Dbrunner-Code": {"<i>code</i>"}, "Dbrunner-Message": {evil + strings.Repeat("x", 50_000)},
		"Dbrunner-Runner": {evil}, "Status": {"503"}, "Nats-Sequence": {"1"},
	}
	_, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "dbrunner.dead.shop.query.s1_a", Header: header})
	require.NoError(t, err)
	label := strings.ReplaceAll(evil, "\u0007", "")
	w.submit("shop", "query", "evil", fmt.Sprintf(`{"id":"evil","labels":{"<u>":%q},"sql":%q}`, strings.ReplaceAll(label, `"`, "'"), "SELECT '"+strings.ReplaceAll(label, "'", "''")+"' AS \"<s>col\""))
	w.submit("shop", "query", "wrong", sql("wrong", "SELECT * FROM \"<script>alert(3)</script>\""))
	const huge = 1 << 20
	_, err = w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "dbrunner.health.runner.evil", Data: []byte(`{"version":1,"instance":"<script>alert(4)</script>","build":"` + strings.Repeat("<b>", huge/10) +
		`","state":"running","interval_seconds":3600,"nats_denied":["<i>\u202e"],"databases":[]}`)})
	require.NoError(t, err)
	w.submit("shop", "query", "huge", `{"id":"huge","sql":"SELECT replace(hex(zeroblob(50000)), '00', '<b>x') AS v, 'a' AS \"<u>\""}`)
	w.submit("shop", "query", "huge-error", `{"id":"huge-error","sql":"SELECT * FROM \"`+strings.Repeat("<b>", huge/10)+`\""}`)
	w.schedule("jobs.shop.query.evil", `{"cron":"0 0 * * *","description":"<script>alert(5)</script>\u202e","time_zone":"<b>","job":{"sql":"SELECT 1"}}`)
	for _, id := range []string{"evil", "wrong", "huge", "huge-error"} {
		w.awaitResult("shop", id)
	}
	s.shows("/db/shop/job/huge", "<b>x<b>x", "KiB)")
	s.shows("/db/shop/job/huge-error", "no such table: <b><b>")
	s.shows("/db/shop", `alert(5)</script>\u202e`)
	s.shows("/", "<script>alert(4)</script>")
	for _, path := range []string{"/", "/dead", "/dead?list=1", "/db/shop", "/db/shop/jobs", "/db/shop/job/evil", "/db/shop/job/wrong", "/db/shop/job/huge", "/db/shop/job/huge-error", "/db/shop/jobs?label=" + url.QueryEscape(evil), "/dead?list=1&code=" + url.QueryEscape(evil), "/dead/redrive?name=shop.query.s1_a"} {
		got := s.get(path)
		for _, tag := range []string{"<script>alert", "<img", "<b>prod", "<i>code", "<u>", "<s>"} {
			require.NotContains(t, got.body, tag, path)
		}
		require.NotContains(t, got.body, "\u202e", path)
		require.NotContains(t, got.body, "\u2066", path)
		require.NotContains(t, got.body, "\u0007", path)
		require.Less(t, len(got.body), 100_000, path)
		require.NotContains(t, got.body, "s3cr3t-word")
	}
	s.shows("/dead?list=1", `\u202egnp.exe`)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	for next, panels := s.stream(ctx, "/"), 0; panels < 3; { // what the stream sends is put into the page as it is
		if event, data := next(); event == "panel" {
			var panel struct{ HTML string }
			require.NoError(t, json.Unmarshal([]byte(data), &panel))
			require.NotRegexp(t, "<script|<img|<b>prod|<b><b>|\u202e", panel.HTML)
			panels++
		}
	}
	s.shows("/db/shop/job/evil", "<script>alert(1)</script>", `\u202e`)
}

// TestMegabyteTexts are cut wherever they are shown, and their size is said.
func TestMegabyteTexts(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	put := func(subject string, header nats.Header, value any) {
		data, err := json.Marshal(value)
		require.NoError(t, err)
		_, err = w.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header, Data: data})
		require.NoError(t, err)
	}
	result := func(id string, more map[string]any) {
		r := map[string]any{"version": 1, "job_id": id, "database": "shop", "kind": "query", "status": "failed", "runner": "node1-1", "finished_at": time.Now().UTC()}
		maps.Copy(r, more)
		put("dbrunner.results.shop."+id, nil, r)
	}
	evil := strings.Repeat("<b>\u202e", 10_000) // a stream takes headers of 64 KiB
	plainText := strings.Repeat("x", 1<<20-5000)
	result("error", map[string]any{"error": map[string]any{"code": "syntax_error", "message": plainText}})
	result("label", map[string]any{"labels": map[string]string{"order": plainText}})
	result("row", map[string]any{"status": "succeeded", "columns": []map[string]string{{"name": "v", "type": "text"}}, "rows": [][]string{{plainText}}, "row_count": 1})
	size := fmt.Sprintf("%d bytes)", len(evil))
	put("dbrunner.dead.shop.query.s1_a", nats.Header{"Dbrunner-Job-Id": {"a"}, "Dbrunner-Reason": {"failed"}, "Dbrunner-Code": {"syntax_error"}, "Dbrunner-Message": {evil}}, "")
	s := w.open(t, ui.Options{ShowRows: true}, user("admin"))
	for path, said := range map[string]string{
		"/db/shop/job/error": "x… (1019 KiB)", "/db/shop/job/label": "x… (1019 KiB)", "/db/shop/job/row": "x… (1019 KiB)", "/db/shop/jobs": "x… (1019 KiB)", "/dead": size, "/dead?list=1": size,
	} {
		got := s.get(path)
		require.Equal(t, http.StatusOK, got.status, path)
		require.Contains(t, plain(got.body), said, path)
		require.Less(t, len(got.body), 30_000, path)
		require.NotRegexp(t, "<b>[^<]*<b>|\u202e", got.body, path)
	}
}

// TestLostConnection shows what was known, gray, and offers no actions; then the page goes on.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true})
	s.shows("/", "2 up", "reports")
	w.node.Stop()
	body := s.shows("/", "NATS connection lost since", "Actions are disabled", "reports")
	require.Contains(t, body, `class="lost"`)
	form := s.get("/db/shop/pause")
	require.Contains(t, form.body, "<button class=\"danger\" disabled>")
	refused := s.act("/db/shop/pause", url.Values{"why": {"x"}})
	require.Equal(t, http.StatusServiceUnavailable, refused.status)
	w.node.Start()
	require.Eventually(t, func() bool { return !strings.Contains(s.get("/").body, `class="lost"`) }, testTimeout, 100*time.Millisecond)
	s.shows("/", "2 up")
}

// TestWhatWasKnownStays also if a panel failed before the connection was known to be lost.
func TestWhatWasKnownStays(t *testing.T) {
	t.Parallel()
	s := newWorld(t).open(t, ui.Options{}).server
	load := func(view any, err error) (any, error) {
		return s.LoadOld("panel", func(context.Context) (any, error) { return view, err })
	}
	_, err := load(nil, fleet.ErrLost)
	require.ErrorIs(t, err, fleet.ErrLost)
	_, err = load("known", nil)
	require.NoError(t, err)
	_, err = load(nil, context.DeadlineExceeded)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	view, err := load(nil, fleet.ErrLost)
	require.NoError(t, err)
	require.Equal(t, "known", view)
}

// TestStream sends the panels of a page that change, and no more.
func TestStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{})
	s.shows("/", "2 up")
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	next := s.stream(ctx, "/")
	seen := map[string]string{}
	for len(seen) < 3 {
		event, data := next()
		if event == "panel" {
			seen[panelID(data)] = data
		}
	}
	require.NotContains(t, seen["runners"], " s\\u003c/time", "ages are the browser's")
	w.submit("shop", "query", "wrong", sql("wrong", "SELECT * FROM nowhere"))
	for {
		event, data := next()
		if event == "panel" && panelID(data) == "attention" && strings.Contains(data, "undefined_object") {
			break
		}
	}
}
