package ui_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/ui"
)

// browser is a headless Chromium; empty: there is none.
func browser() string {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// browse runs Chromium on a page and returns what the page came to, with its script run, and what Chromium logged.
func browse(t *testing.T, url string, args ...string) (dom, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	line := append([]string{
		"--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--v=0", "--timeout=2500",
	}, args...)
	cmd := exec.CommandContext(ctx, browser(), append(line, url)...) //nolint:gosec // the test's own
	out, errOut := &syncBuffer{}, &syncBuffer{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, errOut, 5*time.Second
	require.NoError(t, cmd.Run(), errOut.String())
	return out.String(), errOut.String()
}

// TestInABrowser shows each screen in a real browser: its script runs, its stream is open, and nothing violates the page's policy. With
// SCREENSHOTS it writes pictures, of which docs/ui.md shows two.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	if browser() == "" {
		if os.Getenv("REQUIRE_SERVICES") == "1" {
			require.Fail(t, "no Chromium is found; scripts/setup chromium installs it")
		}
		t.Skip("SKIPPED, not tested: the page in a browser: no Chromium is found")
	}
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{Write: true, Environment: "production"})
	w.submit("shop", "query", "fine", `{"id":"fine","sql":"SELECT 1 AS n","labels":{"order":"4711"}}`)
	for _, id := range []string{"r-1", "r-2", "r-3"} {
		w.submit("reports", "query", id, sql(id, "SELECT * FROM nowhere"))
	}
	w.submit("billing", "query", "waits", sql("waits", "SELECT 1 AS n"))
	w.awaitResult("shop", "fine")
	w.awaitDead(3)
	s.outcome(s.act("/db/shop/pause", map[string][]string{"why": {"vacuum orders"}}), "paused")
	w.submit("shop", "query", "later", sql("later", "SELECT 1 AS n"))
	s.shows("/", "billing", "unhealthy", "paused", "undefined_object ×3")
	s.shows("/db/shop", "paused 1")
	for name, path := range map[string]string{
		"now": "/", "database": "/db/shop", "job": "/db/reports/job/r-1", "dead-letters": "/dead", "jobs": "/db/reports/jobs", "confirm": "/db/shop/resume",
	} {
		dom, log := browse(t, s.url+path, "--dump-dom")
		require.NotContains(t, log, "Content Security Policy", path)
		require.NotContains(t, log, "Uncaught", path)
		if name != "confirm" {
			require.Contains(t, dom, `<span id="age">live</span>`, "the script runs and hears the stream")
		}
		folder := os.Getenv("SCREENSHOTS")
		if folder == "" {
			continue
		}
		for look, args := range map[string][]string{
			"light": {"--window-size=1200,800"}, "dark": {"--window-size=1200,800", "--blink-settings=preferredColorScheme=0"}, "phone": {"--window-size=390,844"},
		} {
			browse(t, s.url+path, append(args, "--screenshot="+filepath.Join(folder, name+"-"+look+".png"))...)
		}
	}
}
