package ui

import (
	"cmp"
	"embed"
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dbrunner/contract"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/*
var staticFiles embed.FS

// templates are the page's own.
type templates struct{ all *template.Template }

func parseTemplates() (templates, error) {
	all, err := template.New("").Funcs(template.FuncMap{
		"text": func(s any) string { return visible(clip(fmt.Sprint(s), shownText)) },
		"num":  number, "bytes": size, "tone": tone, "join": strings.Join, "secs": func(s float64) string { return period(time.Duration(s * float64(time.Second))) },
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
		text = period(e.Now.Sub(at))
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

// period shows a duration in one or two units, as the script does.
func period(d time.Duration) string {
	d = max(d, 0)
	seconds := int64(d / time.Second)
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case seconds < 60:
		return strconv.FormatInt(seconds, 10) + " s"
	case seconds < 3600:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < 48*3600:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds%3600/60)
	}
	return fmt.Sprintf("%d d", seconds/86400)
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

// shownText is how much of a text of others is shown, in characters.
const shownText = 2000

// shownError is how much of an error is shown.
const shownError = 500

// clip shortens a text to a number of characters, and reports how long it was.
func clip(text string, most int) string {
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i] + "… (" + size(uint64(len(text))) + ")"
		}
	}
	return text
}

// visible shows characters that would hide something or change the direction of the text.
func visible(text string) string {
	hidden := func(r rune) bool {
		return r != '\n' && r != '\t' && !strconv.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r)
	}
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !hidden(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// number shows a number with its thousands apart.
func number(n any) string {
	if p, ok := n.(*uint64); ok && p != nil {
		n = *p
	}
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	if strings.ContainsAny(text, ".e") {
		return sign + text
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// size shows a number of bytes.
func size(n any) string {
	value, err := strconv.ParseFloat(fmt.Sprint(n), 64)
	if err != nil {
		return html.EscapeString(fmt.Sprint(n))
	}
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if value < 1024 || unit == "GiB" {
			return strconv.FormatFloat(value, 'f', map[bool]int{true: 0, false: 1}[unit == "B" || value >= 100], 64) + " " + unit
		}
		value /= 1024
	}
	return ""
}

// tone is the class of a word: how it is colored, besides being written.
func tone(word any) string {
	switch fmt.Sprint(word) {
	case string(contract.Healthy), string(contract.Succeeded), contract.DatabaseUp, contract.RunnerRunning:
		return "good"
	case string(contract.Degraded), contract.DatabasePaused, string(contract.Canceled), string(contract.Expired), contract.RunnerStarting, contract.RunnerDraining, "silent":
		return "warn"
	case "":
		return "calm"
	case contract.RunnerStopped, contract.JobWaiting, contract.JobExecuting, contract.JobSettling, "dead letters":
		return "calm"
	}
	return "bad"
}

func firstText(texts ...string) string { return cmp.Or(texts...) }
