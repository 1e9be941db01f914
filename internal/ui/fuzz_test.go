package ui_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/ui"
)

// FuzzRequest: whatever a browser is made to ask, the page keeps its headers, shows no markup of the request, and acts on no form that is
// not its own.
func FuzzRequest(f *testing.F) {
	nc, err := nats.Connect(bustest.Server(f).ClientURL())
	require.NoError(f, err)
	f.Cleanup(nc.Close)
	page, err := ui.New(ui.Options{NATS: nc, Write: true, ShowRows: true, By: "ola"})
	require.NoError(f, err)
	handler := page.Handler()
	for _, seed := range []string{
		"/", "/db/shop", "/db/<x-fuzz>", "/db/shop/job/a%2Fb", "/db/shop/job?id=%3Cx-fuzz%3E", "/db/shop/job/a/result.json", "/dead?list=1&name=%3Cx-fuzz%3E&db=shop",
		"/events?page=/db/shop", "/static/..%2fserver.go", "/dead/redrive?name=x", "/db/shop/pause", "/outcome/%ff", "/db/shop/jobs?label=%3Cx-fuzz%3E&status=failed",
	} {
		f.Add(false, seed, "")
		f.Add(true, seed, "token=x&reason=%3Cx-fuzz%3E")
	}
	f.Fuzz(func(t *testing.T, post bool, target, form string) {
		if _, err := url.ParseRequestURI(target); err != nil || strings.ContainsAny(target, " \r\n\t") {
			return
		}
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form))
		if err != nil {
			return
		}
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		shown := httptest.NewRecorder()
		handler.ServeHTTP(shown, r)
		require.Contains(t, shown.Header().Get("Content-Security-Policy"), "default-src 'none'")
		require.NotContains(t, strings.ToLower(shown.Body.String()), "<x-fuzz")
		if post {
			require.Equal(t, http.StatusForbidden, shown.Code)
		}
	})
}
