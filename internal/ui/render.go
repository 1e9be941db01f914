package ui

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"dbrunner/internal/ui/format"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/*
var staticFiles embed.FS

// templates are the page's own.
type templates struct{ all *template.Template }

func parseTemplates() (templates, error) {
	all, err := template.New("").Funcs(template.FuncMap{
		"text": func(s any) string { return format.Shown(format.Clip(fmt.Sprint(s), format.Text)) },
		"num":  format.Number, "bytes": format.Size, "tone": format.Tone, "join": strings.Join, "secs": func(s float64) string { return format.Period(time.Duration(s * float64(time.Second))) },
		"upper": strings.ToUpper,
	}).ParseFS(templateFiles, "templates/*.html")
	return templates{all}, err
}

// static serves the page's style and script.
func static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	body, err := fs.ReadFile(staticFiles, "static/"+path.Base(name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // fails only if the browser has gone
}

// env is what every template knows.
type env struct {
	Now         time.Time // by the server's clock
	Live        bool      // for a tab that shows times by itself: texts that only grow older are left out
	Write       bool
	Connected   bool
	Lost        time.Time
	Token       string
	Environment string
	Grafana     string
	Namespace   string
	ShowRows    bool
	AsOf        time.Time
}

func (s *Server) env(_ *http.Request, live bool) *env {
	up, lost := s.source.Connected()
	return &env{
		Now: s.source.Now(), Live: live, Write: s.opts.Write, Connected: up, Lost: lost, Token: s.token, Environment: s.opts.Environment,
		Grafana: s.opts.Grafana, Namespace: s.opts.Namespace, ShowRows: s.opts.ShowRows,
	}
}

// Tint is the class of the environment's color.
func (e *env) Tint() string {
	name := strings.ToLower(e.Environment)
	switch {
	case name == "":
		return "plain"
	case strings.HasPrefix(name, "prod"):
		return "production"
	case strings.HasPrefix(name, "stag"), strings.HasPrefix(name, "test"), strings.HasPrefix(name, "dev"):
		return "testing"
	}
	return "other"
}

// Since shows how long ago something was. The text grows in the browser.
func (e *env) Since(t any) template.HTML { return e.moment(t, "data-since") }

// Clock shows when something was.
func (e *env) Clock(t any) template.HTML {
	at, ok := moment(t)
	if !ok {
		return "–"
	}
	format := "15:04:05"
	if e.Now.Sub(at) > 20*time.Hour || at.After(e.Now.Add(time.Minute)) {
		format = "2 Jan 15:04"
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%[1]s">%s</time>`, at.UTC().Format(time.RFC3339Nano), at.UTC().Format(format))) //nolint:gosec // times only
}

func (e *env) moment(t any, attribute string) template.HTML {
	at, ok := moment(t)
	if !ok {
		return "–"
	}
	text := ""
	if !e.Live {
		text = format.Period(e.Now.Sub(at))
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="since %[1]s" %s>%s</time>`, at.UTC().Format(time.RFC3339Nano), attribute, text)) //nolint:gosec // times only
}

func moment(t any) (time.Time, bool) {
	switch at := t.(type) {
	case time.Time:
		return at, !at.IsZero()
	case *time.Time:
		if at == nil {
			return time.Time{}, false
		}
		return *at, !at.IsZero()
	}
	return time.Time{}, false
}

// part is a panel with its content.
type part struct {
	ID, Title string
	Body      template.HTML
}

// safe marks what a template of ours has made.
func safe(text string) template.HTML { return template.HTML(text) } //nolint:gosec // escaped by the template that made it

type panelData struct {
	*env
	View    any
	Problem string
}

type pageData struct {
	*env
	Page  *page
	Parts []part
	Path  string
}

func firstText(texts ...string) string { return cmp.Or(texts...) }
