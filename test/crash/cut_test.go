package crash

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
)

// The link is cut around COMMIT: just before the server saw it, just after, and while it is still on its way.
func TestLinkCutAroundCommit(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*cutproxy.Proxy) <-chan struct{}{
		"before": func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Commit) },
		"after":  func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Commit) },
		"late":   func(p *cutproxy.Proxy) <-chan struct{} { return p.CutLate(cutproxy.Commit, 2*time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := dbtest.StartPostgres(t)
			url := server.Database(t)
			proxy := cutproxy.New(t, server.Address())
			node := bustest.Server(t)
			w := setup(t, node.ClientURL(), proxy.URL(url), url)
			seen := w.startWatching()
			w.start("r")
			w.serving()
			w.publish("transaction", insert("warm", "warm"))
			require.Equal(t, "succeeded", w.stored("warm").Status)
			happened := cut(proxy)
			w.publish("transaction", insert("a1", "a"))
			require.Equal(t, "succeeded", w.stored("a1").Status)
			w.drained()
			<-happened
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("a1"))
		})
	}
}

// The link is cut at COMMIT and the runner is killed before it can find out what happened.
func TestLinkCutAtCommitAndRunnerKilled(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	url := server.Database(t)
	proxy := cutproxy.New(t, server.Address())
	node := bustest.Server(t)
	w := setup(t, node.ClientURL(), proxy.URL(url), url)
	first := w.start("first")
	w.serving()
	w.publish("transaction", insert("warm", "warm"))
	require.Equal(t, "succeeded", w.stored("warm").Status)
	happened := proxy.CutAfter(cutproxy.Commit)
	w.publish("transaction", insert("a1", "a"))
	<-happened
	proxy.Refuse(true)
	first.kill()
	proxy.Refuse(false)
	w.start("second")
	require.Equal(t, "succeeded", w.stored("a1").Status)
	w.drained()
	require.Equal(t, 1, w.effects("a"))
}
