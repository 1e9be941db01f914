package ui_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/ui"
)

// TestInABrowser uses the page as a person does, in a real browser. With SCREENSHOTS it writes pictures of all screens, of which
// docs/ui.md shows two.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	w := newWorld(t)
	w.fleet(t)
	w.trouble()
	s := w.open(t, ui.Options{Write: true, Environment: "production"})
	s.shows("/", "billing", "unhealthy", "paused", "undefined_object ×3", "1 wait")
	s.shows("/db/shop", "nightly", "2 runners answered", "order_by_id", "hourly", "active", "30 2 * * * (Europe/Berlin)", "queue bulk")
	for name, test := range map[string]func(*testing.T, *chromium, *world, *site){
		"screens": inBrowserScreens, "read-only": inBrowserReadOnly, "tabs": inBrowserTabs, "hour": inBrowserHour,
		"denied": inBrowserDenied, "lost": inBrowserLost, "script": inBrowserWithoutScript, "hostile": inBrowserHostile, "attacked": inBrowserAttacked,
		"hidden": inBrowserHidden, "used": inBrowserUsed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c, w, s)
		})
	}
}

// trouble makes a fleet that a person has to look at: a paused database with a job that waits and one that runs, one that is down with a
// job that waits, failed jobs with dead letters.
func (w *world) trouble() {
	w.t.Helper()
	w.submit("shop", "query", "fine", `{"id":"fine","sql":"SELECT 1 AS n","labels":{"order":"4711"}}`)
	for _, id := range []string{"r-1", "r-2", "r-3"} {
		w.submit("reports", "query", id, sql(id, "SELECT * FROM nowhere"))
	}
	w.submit("billing", "query", "waits", sql("waits", "SELECT 1 AS n"))
	w.submit("shop", "query", "nightly", `{"id":"nightly","timeout":"10m","sql":"`+long+`"}`)
	w.schedule("jobs.shop.query.nightly_report", `{"cron":"30 2 * * *","time_zone":"Europe/Berlin","description":"Totals of the day","job":{"sql":"SELECT 1 AS n"}}`)
	w.schedule("jobs.shop.query.hourly", `{"every":"1h","job":{"sql":"SELECT 1 AS n"}}`)
	w.schedule("jobs.shop.query.wrong", `{"cron":"61 * * * *","job":{"sql":"SELECT 1 AS n"}}`)
	w.awaitResult("shop", "fine")
	w.dryRun("close-7")
	w.awaitDead(3)
	s := w.open(w.t, ui.Options{Write: true, NoAudit: true})
	s.shows("/db/shop", "nightly")
	s.outcome(s.act("/db/shop/pause", url.Values{"why": {"vacuum orders"}}), "paused")
	w.submit("shop", "query", "later", sql("later", "SELECT 1 AS n"))
	w.t.Cleanup(func() { // before the runners end, which wait for it
		s.outcome(s.act("/db/shop/job/nightly/cancel", nil), "nightly is cancelled")
	})
}

// screen is an address of the page, with a text that shows that it is complete.
type screen struct{ name, path, text string }

func screens() []screen {
	return []screen{
		{"now", "/", "undefined_object ×3"},
		{"database", "/db/shop", "nightly"},
		{"down", "/db/billing", "unhealthy"},
		{"job", "/db/reports/job/r-1", "nothing of it is there"},
		{"dry-run", "/db/shop/job/close-7", "runner approve shop close-7"},
		{"jobs", "/db/reports/jobs", "of the newest"},
		{"dry-runs", "/db/shop/jobs?status=waits+for+approval", "1 of the newest"},
		{"dead-letters", "/dead", "undefined_object"},
		{"dead-list", "/dead?list=1", "3 match"},
		{"confirm", "/dead/redrive?db=reports&kind=query&reason=failed&code=undefined_object", "Type the number 3"},
		{"missing", "/nothing", "There is nothing at this address"},
	}
}

// inBrowserScreens shows each screen light, dark and on a phone: nothing violates the policy, nothing leaves the host, nothing is wider than
// the phone, and axe-core has no complaint.
func inBrowserScreens(t *testing.T, c *chromium, _ *world, s *site) {
	axe := axeCore(t)
	tab := c.profile(t).tab(t)
	for _, at := range screens() {
		tab.open(s.url + at.path)
		tab.shows(at.text)
		if at.name != "confirm" && at.name != "missing" {
			tab.until(`document.getElementById("age").textContent === "live"`)
		}
		tab.picture(at.name + "-light")
		tab.size(390, 844)
		require.Equal(t, "390", tab.text("document.documentElement.scrollWidth"), "%s: the page is wider than a phone", at.path)
		tab.picture(at.name + "-phone")
		tab.size(1200, 800)
		tab.dark(true)
		tab.picture(at.name + "-dark")
		tab.dark(false)
	}
	tab.calm(s.url)

	checked := c.profile(t).tab(t)
	checked.must("Page.setBypassCSP", map[string]any{"enabled": true}) // for axe-core alone
	for _, at := range screens() {
		checked.open(s.url + at.path)
		checked.shows(at.text)
		require.NoError(t, checked.eval(axe, &struct{}{}))
		for _, look := range []string{"light", "dark on a phone"} {
			if look != "light" {
				checked.dark(true)
				checked.size(390, 844)
			}
			var found []string
			require.NoError(t, checked.eval(`axe.run({resultTypes: ["violations"]}).then((r) => r.violations.map((v) => v.impact + " " + v.id + ": " + v.help + ": " + v.nodes.map((n) => n.html + n.failureSummary).join(" | ")))`, &found))
			require.Empty(t, found, "%s %s", at.path, look)
		}
		checked.dark(false)
		checked.size(1200, 800)
	}
}

// The version of axe-core that scripts/setup fetches, and the digest of its file. Its license (MPL-2.0) is no matter of ours: it is not part
// of this repository, nor of what is built from it.
const (
	axeVersion = "4.14.1"
	axeDigest  = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
)

// axeCore is the script of axe-core, which checks accessibility.
func axeCore(t *testing.T) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "..", ".bin", "axe-core-"+axeVersion+".min.js"))
	if os.IsNotExist(err) && os.Getenv("REQUIRE_SERVICES") != "1" {
		t.Skip("SKIPPED, not tested: accessibility of the page: axe-core is not there; scripts/setup axe fetches it")
	}
	require.NoError(t, err, "scripts/setup axe fetches it")
	sum := sha256.Sum256(body)
	require.Equal(t, axeDigest, hex.EncodeToString(sum[:]))
	return string(body) + "; undefined"
}

// picture writes a picture, where they are wanted.
func (b *tab) picture(name string) {
	b.t.Helper()
	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		b.screenshot(filepath.Join(folder, name+".png"))
	}
}

// TestActionsInABrowser does each action with the mouse, and one with the keyboard alone; each has its audit entry.
func TestActionsInABrowser(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true, Environment: "production"})
	tab := c.profile(t).tab(t)
	tab.open(s.url + "/db/shop")
	tab.shows("2 runners", "healthy")

	tab.click("a.button", "Pause…")
	tab.shows("PRODUCTION", "Pause the jobs of shop.")
	tab.click("input[name=why]", "")
	tab.write("vacuum orders")
	tab.click("button.danger", "Pause shop in production")
	tab.shows("shop is paused", "Confirmed by node1-1, node2-1.")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.pause"), `"by":"ola","tool":"runner ui","action":"pause","database":"shop","reason":"vacuum orders"`)
	outcome := tab.text("location.pathname")
	tab.open(s.url + outcome)
	tab.shows("shop is paused")

	tab.open(s.url + "/")
	tab.shows("by ola: vacuum orders")
	tab.byKeyboard(w, s)

	w.submit("shop", "query", "nightly", `{"id":"nightly","timeout":"10m","sql":"`+long+`"}`)
	tab.open(s.url + "/db/shop")
	tab.shows("nightly")
	tab.click("a.button", "Cancel…")
	tab.shows("Cancel the job nightly of shop.")
	tab.click("button.danger", "Cancel nightly in production")
	tab.shows("nightly is cancelled")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.cancel"), `"targets":["nightly"]`)

	w.schedule("jobs.shop.query.monthly", `{"cron":"0 3 1 * *","job":{"sql":"SELECT 1 AS n"}}`)
	tab.open(s.url + "/db/shop")
	tab.shows("monthly")
	tab.tabTo("Run now…")
	tab.press("Enter")
	tab.shows("PRODUCTION", "Publish the job of the schedule jobs.shop.query.monthly once, now.")
	tab.tabTo("Run now in production")
	tab.press("Enter")
	tab.shows("The job of jobs.shop.query.monthly is published", "Its id is monthly-")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.schedule"), `"targets":["jobs.shop.query.monthly"],"count":1,"after":{"change":"run"}`)
	tab.click("a", "The job")
	tab.shows("It took effect; its result is stored.")

	tab.pauses(w, s, "/db/shop/queue/bulk/", "queue bulk of shop", `"targets":["queue bulk"]`)
	tab.pauses(w, s, "/db/shop/schedule/jobs.shop.query.monthly/", "schedule jobs.shop.query.monthly", `"targets":["jobs.shop.query.monthly"]`)

	for _, id := range []string{"a", "b", "c"} {
		w.submit("shop", "query", id, sql(id, "SELECT * FROM nowhere"))
	}
	w.awaitDead(3)
	tab.open(s.url + "/dead?db=shop")
	tab.click("a.button", "Redrive 3…")
	tab.shows("Publish 3 jobs of shop again")
	tab.click("input[name=count]", "")
	tab.write("4")
	tab.click("button.danger", "Redrive 3")
	tab.shows("3 dead letters match now, and another number was typed", "Type the number 3")
	tab.click("input[name=count]", "")
	tab.write("3")
	tab.click("button.danger", "Redrive 3")
	tab.shows("3 of 3 published")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.redrive"), `"count":3`)
	tab.open(s.url + "/dead?list=1&db=shop&reason=failed")
	tab.click("a.button", "Redrive…")
	tab.shows("Did it take effect? no")
	tab.click("button.danger", "Redrive")
	tab.shows("1 of 1 published")
	require.Contains(t, w.audited("dbrunner.audit.database.shop.redrive"), `"count":1`)
	tab.calm(s.url)
}

// pauses pauses and resumes a queue or a schedule, by the buttons of its database.
func (b *tab) pauses(w *world, s *site, path, name, targets string) {
	b.t.Helper()
	b.open(s.url + "/db/shop")
	b.follow(path + "pause")
	b.shows("Pause the " + name)
	b.click("input[name=why]", "")
	b.write("by hand")
	b.click("button.danger", "Pause "+name)
	b.shows(name+" is paused", "Confirmed by node1-1, node2-1.")
	require.Contains(b.t, w.audited("dbrunner.audit.database.shop.pause"), targets+`,"count":1,"reason":"by hand"`)
	b.click("a", "Back")
	b.follow(path + "resume")
	b.shows("End the pause of " + name)
	b.click("button", "Resume "+name)
	b.shows(name+" is resumed", "Confirmed by node1-1, node2-1.")
	require.Contains(b.t, w.audited("dbrunner.audit.database.shop.resume"), targets)
}

// follow follows a button that leads to an address, with the keyboard.
func (b *tab) follow(address string) {
	b.t.Helper()
	b.until(`document.querySelector("a.button[href='` + address + `']")`)
	require.NoError(b.t, b.eval(`document.querySelector("a.button[href='`+address+`']").focus()`, new(any)))
	b.press("Enter")
}

// byKeyboard resumes a database, and finds a job, without a mouse.
func (b *tab) byKeyboard(w *world, s *site) {
	b.t.Helper()
	b.press("Tab")
	require.Equal(b.t, "Skip to content", b.text("document.activeElement.textContent"))
	require.Less(b.t, b.number("document.activeElement.getBoundingClientRect().x"), 100.0, "it is shown while it has the focus")
	b.press("Enter")
	b.tabTo("shop")
	b.press("Enter")
	b.shows("paused by ola")
	b.tabTo("Resume…")
	b.press("Enter")
	b.shows("End the pause of shop.")
	b.tabTo("Resume shop in production")
	b.press("Enter")
	b.shows("shop is resumed", "Confirmed by")
	require.Contains(b.t, w.audited("dbrunner.audit.database.shop.resume"), `"before":{"by":"ola"`)
	b.open(s.url + "/db/shop")
	b.press("/")
	b.until(`document.activeElement.id === "find"`)
	b.write("nowhere")
	b.press("Enter")
	b.shows("No stored result")
}

// tabTo presses Tab until what has the focus has a text; it is marked as such.
func (b *tab) tabTo(text string) {
	b.t.Helper()
	for range 200 {
		b.press("Tab")
		if b.text("document.activeElement.textContent.trim()") == text {
			require.NotEqual(b.t, "none", b.text("getComputedStyle(document.activeElement).outlineStyle"), "%s: nothing shows the focus", text)
			return
		}
	}
	require.Fail(b.t, "it is not reached by Tab", text)
}

func (b *tab) number(expression string) (n float64) {
	b.t.Helper()
	require.NoError(b.t, b.eval("Number("+expression+")", &n))
	return n
}

// inBrowserWithoutScript uses all screens, and an action, without JavaScript.
func inBrowserWithoutScript(t *testing.T, c *chromium, w *world, s *site) {
	tab := c.profile(t).tab(t)
	tab.must("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	for _, at := range screens() {
		tab.open(s.url + at.path)
		tab.shows(at.text)
	}
	tab.open(s.url + "/")
	tab.shows("Without JavaScript this page does not update by itself", "UTC")
	tab.click("a[href='/db/reports']", "")
	tab.click("a.button", "Pause…")
	tab.click("input[name=why]", "")
	tab.write("no script")
	tab.click("button.danger", "Pause reports")
	tab.shows("reports is paused")
	require.Contains(t, w.audited("dbrunner.audit.database.reports.pause"), `"reason":"no script"`)
	tab.click("a", "Back")
	tab.click("a.button", "Resume…")
	tab.click("button", "Resume reports")
	tab.shows("reports is resumed")
	tab.calm(s.url)
}

// inBrowserReadOnly offers no action on any screen.
func inBrowserReadOnly(t *testing.T, c *chromium, w *world, _ *site) {
	s := w.open(t, ui.Options{})
	tab := c.profile(t).tab(t)
	for _, at := range screens() {
		tab.open(s.url + at.path)
		if at.name == "confirm" {
			tab.shows("this page is read-only")
			continue
		}
		tab.shows(at.text)
		tab.shows("read-only")
		require.Equal(t, "0", tab.text(`document.querySelectorAll("form[method=post], a[href*='/pause'], a[href*='/resume'], a[href*='/cancel'], a[href*='/redrive'], a[href$='/run']").length`), at.path)
	}
	tab.calm(s.url)
}

// inBrowserDenied names what a user without permissions may not read, in each panel, instead of an empty list.
func inBrowserDenied(t *testing.T, c *chromium, _ *world, _ *site) {
	w := worldOfUsers(t)
	s := w.open(t, ui.Options{}, user("none"))
	tab := c.profile(t).tab(t)
	for path, stream := range map[string]string{"/": "DBRUNNER_HEALTH", "/db/shop": "DBRUNNER_HEALTH", "/dead": "DBRUNNER_DEAD", "/db/shop/job/a": "DBRUNNER_RESULTS_shop", "/db/shop/jobs": "DBRUNNER_RESULTS_shop"} {
		tab.open(s.url + path)
		tab.shows("This user may not read " + stream)
		require.Equal(t, "0", tab.text(`document.querySelectorAll(".allgood, table").length`), path)
	}
	tab.open(s.url + "/")
	tab.picture("denied-light")
	tab.calm(s.url)
}

// inBrowserLost restarts NATS while the page is open: it shows what it knew, as of then, and goes on by itself.
func inBrowserLost(t *testing.T, c *chromium, _ *world, _ *site) {
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true})
	tab := c.profile(t).tab(t)
	tab.open(s.url + "/")
	tab.shows("2 up", "reports")
	w.node.Stop()
	tab.shows("NATS connection lost since", "Actions are disabled", "reports", "2 up", "not live")
	require.Contains(t, tab.text(`getComputedStyle(document.querySelector("main")).filter`), "grayscale")
	tab.picture("lost-light")
	w.node.Start()
	tab.until(`document.getElementById("lost").hidden && !document.body.classList.contains("lost")`)
	tab.shows("2 up")
	tab.until(`document.getElementById("age").textContent === "live"`)
	tab.calm(s.url)
}

// inBrowserTabs opens eight tabs in one browser: all follow the fleet, and pages still load.
func inBrowserTabs(t *testing.T, c *chromium, w *world, _ *site) {
	s := w.open(t, ui.Options{})
	browser := c.profile(t)
	var tabs []*tab
	for range 8 {
		tab := browser.tab(t)
		tab.open(s.url + "/db/reports/jobs")
		tab.shows("3 of the newest 3 results")
		tabs = append(tabs, tab)
	}
	w.submit("reports", "query", "news", sql("news", "SELECT 1 AS n"))
	for _, tab := range tabs {
		tab.shows("4 of the newest 4 results")
	}
	tabs[7].open(s.url + "/")
	tabs[7].shows("2 up")
	for _, tab := range tabs {
		tab.calm(s.url)
	}
}

// inBrowserUsed: a panel is not replaced while a person presses something in it, which would be no click, or types there; then it shows what is new.
func inBrowserUsed(t *testing.T, c *chromium, _ *world, _ *site) {
	w := worldOfUsers(t)
	w.beat(contract.RunnerRunning, 3600, healthy("shop"))
	s := w.open(t, ui.Options{}, user("admin"))
	tab := c.profile(t).tab(t)
	tab.open(s.url + "/")
	tab.shows("shop", "1 database is healthy")
	tab.until(`document.getElementById("age").textContent === "live"`)
	var at struct{ X, Y float64 }
	require.NoError(t, tab.eval(`(() => { const r = document.querySelector("#p-databases a").getBoundingClientRect(); return {X: r.x + 3, Y: r.y + 3}; })()`, &at))
	mouse := func(kind string) {
		tab.must("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1})
	}
	mouse("mousePressed")
	w.beat(contract.RunnerRunning, 3600, healthy("shop"), healthy("reports"))
	tab.shows("2 databases are healthy")
	require.NotContains(t, tab.text(`document.querySelector("#p-databases").innerText`), "reports")
	mouse("mouseReleased")
	tab.until(`location.pathname === "/db/shop"`)

	tab.open(s.url + "/db/shop/jobs")
	tab.shows("No results are stored.")
	tab.until(`document.getElementById("age").textContent === "live"`)
	tab.click("input[name=code]", "")
	tab.write("some")
	w.publish("dbrunner.results.shop.a", map[string]any{"version": 1, "job_id": "a", "kind": "query", "status": "failed", "finished_at": time.Now().UTC()})
	w.open(t, ui.Options{}, user("admin")).shows("/db/shop/jobs", "1 of the newest 1")
	require.Equal(t, "some", tab.text(`document.querySelector("input[name=code]").value`))
	require.NoError(t, tab.eval(`new Promise((done) => { const e = new EventSource("/events?page=/db/shop/jobs"); e.addEventListener("panel", (m) => { if (m.data.includes("1 of the newest 1")) { e.close(); done(true); } }); })`, new(bool)))
	tab.click("h1", "Jobs of shop")
	tab.shows("1 of the newest 1")
	tab.calm(s.url)
}

// What an hour brings: an update every two seconds.
const (
	hourUpdates = 1800
	hourWarm    = 200 // before the first measurement
)

// inBrowserHour gives a tab as many updates of its panels as an hour brings, without pauses: neither its memory nor its elements grow.
func inBrowserHour(t *testing.T, c *chromium, _ *world, s *site) {
	goOn := make(chan struct{})
	fast := httptest.NewServer(s.hasty(t, goOn))
	t.Cleanup(fast.Close)
	tab := c.profile(t).tab(t)
	t.Cleanup(func() { tab.must("Page.navigate", map[string]any{"url": "about:blank"}) })
	tab.open(fast.URL + "/")
	tab.shows(fmt.Sprintf("update %d of the page", hourWarm-1))
	before := tab.weigh()
	close(goOn)
	tab.shows(fmt.Sprintf("update %d of the page", hourWarm+hourUpdates-1))
	after := tab.weigh()
	t.Logf("before %+v, after %+v", before, after)
	require.LessOrEqual(t, after.Nodes, before.Nodes+before.Nodes/10, "elements")
	require.Equal(t, before.JSEventListeners, after.JSEventListeners)
	require.LessOrEqual(t, after.heap, before.heap+256<<10, "memory")
	tab.calm(fast.URL)
}

// hasty is a page whose stream does not wait between updates: after the first ones for goOn alone.
func (s *site) hasty(t *testing.T, goOn <-chan struct{}) http.Handler {
	t.Helper()
	at, err := url.Parse(s.url)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	var panels []string
	for next := s.stream(ctx, "/"); len(panels) < 3; {
		if event, data := next(); event == "panel" {
			panels = append(panels, data)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(at))
	mux.HandleFunc("GET /events", func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("Content-Type", "text/event-stream")
		for i := range hourWarm + hourUpdates {
			if i == hourWarm {
				_ = http.NewResponseController(out).Flush() // a browser that has gone shows below
				select {
				case <-goOn:
				case <-r.Context().Done():
					return
				}
			}
			var panel map[string]any
			_ = json.Unmarshal([]byte(panels[i%len(panels)]), &panel) // it was read before
			panel["html"] = fmt.Sprintf("%s<p>update %d of the page</p>", panel["html"], i)
			text, _ := json.Marshal(panel) // texts and a number
			if _, err := fmt.Fprintf(out, "event: panel\ndata: %s\n\n", text); err != nil {
				return
			}
		}
		_ = http.NewResponseController(out).Flush()
		<-r.Context().Done()
	})
	return mux
}

// weight is what a tab takes.
type weight struct {
	Nodes, Documents, JSEventListeners int
	heap                               int
}

// weigh measures a tab after its garbage was collected.
func (b *tab) weigh() (out weight) {
	b.t.Helper()
	for range 2 {
		b.must("HeapProfiler.collectGarbage", nil)
	}
	require.NoError(b.t, json.Unmarshal(b.must("Memory.getDOMCounters", nil), &out))
	var heap struct{ UsedSize float64 }
	require.NoError(b.t, json.Unmarshal(b.must("Runtime.getHeapUsage", nil), &heap))
	out.heap = int(heap.UsedSize)
	return out
}
