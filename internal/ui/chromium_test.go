package ui_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browserPath is a headless Chromium; empty: there is none.
func browserPath() string {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// chromium is a headless Chromium that is driven by its DevTools protocol over a pipe: JSON messages, each with a zero byte behind it.
type chromium struct {
	t   testing.TB
	in  *os.File
	log syncBuffer

	mu    sync.Mutex
	last  int
	calls map[int]chan message // under way, by id; nil: it has ended
	tabs  map[string]*tab      // by session
}

// message is one of the protocol: a call, its answer, or an event.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startChromium starts a browser for a test, or skips the test where there is none.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path := browserPath()
	if path == "" {
		if os.Getenv("REQUIRE_SERVICES") == "1" {
			require.Fail(t, "no Chromium is found; scripts/setup chromium installs it")
		}
		t.Skip("SKIPPED, not tested: the page in a browser: no Chromium is found")
	}
	commands, in, err := os.Pipe()
	require.NoError(t, err)
	out, answers, err := os.Pipe()
	require.NoError(t, err)
	c := &chromium{t: t, in: in, calls: map[int]chan message{}, tabs: map[string]*tab{}}
	cmd := exec.Command(path, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", //nolint:gosec,noctx // the test's own; it ends by the protocol
		"--disable-background-networking", "--allow-pre-commit-input", "--no-first-run", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules=MAP *.example 127.0.0.1", "about:blank")
	cmd.ExtraFiles, cmd.Stderr, cmd.WaitDelay = []*os.File{commands, answers}, &c.log, 5*time.Second
	require.NoError(t, cmd.Start())
	require.NoError(t, errors.Join(commands.Close(), answers.Close()))
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read(out)
	}()
	t.Cleanup(func() {
		_, _ = c.send("", "Browser.close", nil) // it may have ended by itself
		stop := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stop.Stop()
		_ = in.Close()
		<-read
		_ = out.Close()
	})
	return c
}

// read takes over what the browser answers and reports, until it ends.
func (c *chromium) read(out *os.File) {
	for lines := bufio.NewReader(out); ; {
		text, err := lines.ReadBytes(0)
		if err != nil {
			c.mu.Lock()
			for _, answer := range c.calls {
				close(answer)
			}
			c.calls = nil
			c.mu.Unlock()
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		c.mu.Lock()
		answer, tab := c.calls[m.ID], c.tabs[m.Session]
		delete(c.calls, m.ID)
		c.mu.Unlock()
		switch {
		case m.ID != 0 && answer != nil:
			answer <- m
		case tab != nil:
			tab.event(m.Method, m.Params)
		}
	}
}

// send calls a method of the browser, or of the tab of a session, and waits for its result.
func (c *chromium) send(session, method string, params any) (json.RawMessage, error) {
	text, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	answer := make(chan message, 1)
	c.mu.Lock()
	if c.calls == nil {
		c.mu.Unlock()
		return nil, errors.New("the browser has ended: " + c.log.String())
	}
	c.last++
	m := message{ID: c.last, Session: session, Method: method, Params: text}
	c.calls[m.ID] = answer
	line, err := json.Marshal(m)
	if err == nil {
		_, err = c.in.Write(append(line, 0))
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case got, ok := <-answer:
		switch {
		case !ok:
			return nil, errors.New("the browser has ended: " + c.log.String())
		case got.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, got.Error.Message)
		}
		return got.Result, nil
	case <-time.After(testTimeout):
		return nil, fmt.Errorf("%s: no answer from the browser", method)
	}
}

// profile is a browser's cookies and storage, apart from those of others.
type profile struct {
	c  *chromium
	id string
}

func (c *chromium) profile(t *testing.T) *profile {
	t.Helper()
	got, err := c.send("", "Target.createBrowserContext", map[string]any{})
	require.NoError(t, err)
	var made struct {
		ID string `json:"browserContextId"`
	}
	require.NoError(t, json.Unmarshal(got, &made))
	t.Cleanup(func() { _, _ = c.send("", "Target.disposeBrowserContext", map[string]any{"browserContextId": made.ID}) })
	return &profile{c, made.ID}
}

// tab is a page that the browser shows.
type tab struct {
	t       *testing.T
	c       *chromium
	session string

	mu       sync.Mutex
	problems []string // errors of scripts, and violations of the page's policy
	requests []string // what it has asked for
}

// tab opens an empty page, as wide as a desk's screen.
func (p *profile) tab(t *testing.T) *tab {
	t.Helper()
	got, err := p.c.send("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": p.id})
	require.NoError(t, err)
	var made struct {
		ID string `json:"targetId"`
	}
	require.NoError(t, json.Unmarshal(got, &made))
	got, err = p.c.send("", "Target.attachToTarget", map[string]any{"targetId": made.ID, "flatten": true})
	require.NoError(t, err)
	var attached struct {
		Session string `json:"sessionId"`
	}
	require.NoError(t, json.Unmarshal(got, &attached))
	out := &tab{t: t, c: p.c, session: attached.Session}
	p.c.mu.Lock()
	p.c.tabs[out.session] = out
	p.c.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Audits"} {
		out.must(domain+".enable", nil)
	}
	out.size(1200, 800)
	return out
}

// event takes over what a tab reports.
func (b *tab) event(method string, params json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch method {
	case "Network.requestWillBeSent":
		var e struct{ Request struct{ URL string } }
		_ = json.Unmarshal(params, &e) // shown by an empty address
		b.requests = append(b.requests, e.Request.URL)
	case "Runtime.exceptionThrown", "Page.javascriptDialogOpening":
		b.problems = append(b.problems, string(params))
	case "Log.entryAdded":
		var e struct {
			Entry struct{ Source, Level, Text string }
		}
		if json.Unmarshal(params, &e) == nil && e.Entry.Level == "error" && e.Entry.Source != "network" { // an action that is refused is one, too
			b.problems = append(b.problems, e.Entry.Source+": "+e.Entry.Text)
		}
	case "Audits.issueAdded":
		var e struct{ Issue struct{ Code string } }
		if json.Unmarshal(params, &e) == nil && (e.Issue.Code == "ContentSecurityPolicyIssue" || e.Issue.Code == "MixedContentIssue") {
			b.problems = append(b.problems, string(params))
		}
	}
}

func (b *tab) must(method string, params any) json.RawMessage {
	b.t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	got, err := b.c.send(b.session, method, params)
	require.NoError(b.t, err)
	return got
}

// size sets how large the page is shown.
func (b *tab) size(width, height int) {
	b.t.Helper()
	b.must("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700})
}

// dark sets whether a person prefers dark colors.
func (b *tab) dark(dark bool) {
	b.t.Helper()
	value := map[bool]string{true: "dark", false: "light"}[dark]
	b.must("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": value}}})
}

// open shows an address.
func (b *tab) open(address string) {
	b.t.Helper()
	var got struct{ ErrorText string }
	require.NoError(b.t, json.Unmarshal(b.must("Page.navigate", map[string]any{"url": address}), &got))
	require.Empty(b.t, got.ErrorText, address)
	b.until(`document.readyState === "complete" && location.href !== "about:blank"`)
}

// eval evaluates an expression in the page, and reads its value into out. It returns an error if the page has none at this moment.
func (b *tab) eval(expression string, out any) error {
	got, err := b.c.send(b.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if err != nil {
		return err
	}
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := json.Unmarshal(got, &answer); err != nil {
		return err
	}
	if e := answer.ExceptionDetails; e != nil {
		return errors.New(e.Text + " " + e.Exception.Description)
	}
	if len(answer.Result.Value) == 0 { // undefined
		return nil
	}
	return json.Unmarshal(answer.Result.Value, out)
}

// text is the value of an expression as a text.
func (b *tab) text(expression string) string {
	b.t.Helper()
	var text string
	require.NoError(b.t, b.eval("String("+expression+")", &text))
	return text
}

// until waits until an expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var holds bool
		return b.eval("Boolean("+expression+")", &holds) == nil && holds
	}, testTimeout, 20*time.Millisecond, "%s\n%s", expression, lazy(func() string { return b.text("document.body.innerText") }))
}

// lazy is a text that is made where it is printed.
type lazy func() string

func (l lazy) String() string { return l() }

// shows waits until the page shows all texts.
func (b *tab) shows(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		encoded, err := json.Marshal(text)
		require.NoError(b.t, err)
		b.until("document.body.innerText.includes(" + string(encoded) + ")")
	}
}

// click presses the mouse on the first element that a selector finds and that has a text.
func (b *tab) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll(%q)].find((e) => e.textContent.includes(%q))`, selector, text)
	b.until(find)
	var at struct{ X, Y float64 }
	require.NoError(b.t, b.eval(`(() => { const e = `+find+`; e.scrollIntoView({block: "center"}); const r = e.getBoundingClientRect();
		return {X: r.x + r.width / 2, Y: r.y + r.height / 2}; })()`, &at))
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.must("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1})
	}
}

// press presses a key: a letter, Tab or Enter.
func (b *tab) press(key string) {
	b.t.Helper()
	params := map[string]any{"type": "keyDown", "key": key}
	switch key {
	case "Tab":
		params["windowsVirtualKeyCode"], params["code"] = 9, "Tab"
	case "Enter":
		params["windowsVirtualKeyCode"], params["code"], params["text"] = 13, "Enter", "\r"
	default:
		params["text"] = key
	}
	b.must("Input.dispatchKeyEvent", params)
	b.must("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key})
}

// write types a text into what has the focus.
func (b *tab) write(text string) {
	b.t.Helper()
	b.must("Input.insertText", map[string]any{"text": text})
}

// screenshot writes a picture of the whole page.
func (b *tab) screenshot(file string) {
	b.t.Helper()
	var got struct{ Data []byte }
	require.NoError(b.t, json.Unmarshal(b.must("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true, "clip": map[string]any{
		"x": 0, "y": 0, "scale": 1, "width": b.number("innerWidth"), "height": b.number("Math.max(innerHeight, document.documentElement.scrollHeight)"),
	}}), &got))
	require.NoError(b.t, os.WriteFile(file, got.Data, 0o600))
}

// calm holds that no script has failed, that nothing violates the page's policy, and that nothing was asked of another host.
func (b *tab) calm(site string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.problems)
	for _, request := range b.requests {
		require.Regexp(b.t, `^(`+site+`/|about:blank$)`, request, "it leaves the host")
	}
}
