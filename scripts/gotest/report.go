package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// report prints events the way go test prints without -v: packages, and the output of tests that failed.
type report struct {
	out     io.Writer
	held    map[string][]string // output by package and test, until it is known whether it is wanted
	skipped []string
	engines map[string]string // database engines, and how their suite ended
}

func newReport(out io.Writer) *report {
	return &report{out: out, held: map[string][]string{}, engines: map[string]string{}}
}

// read prints all events, then the list of skipped tests.
func (r *report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		switch {
		case err == io.EOF:
			r.summary()
			return nil
		case err != nil:
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

// line handles one event. What is no event is printed as it is.
func (r *report) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		r.print(string(line))
		return
	}
	switch e.Action {
	case "output", "build-output":
		r.output(e)
	case "fail":
		r.suite(e, "failed")
		r.flush(e)
	case "skip":
		r.suite(e, "NOT tested")
		r.skip(e)
	case "pass":
		r.suite(e, "tested")
		delete(r.held, e.key())
	}
}

func (e event) key() string { return e.Package + " " + e.Test }

// output prints what belongs to a package, and keeps what belongs to a test.
func (r *report) output(e event) {
	if strings.HasPrefix(e.Output, "=== ") {
		return // which test starts, pauses and goes on: for -v
	}
	if e.Test != "" {
		r.held[e.key()] = append(r.held[e.key()], e.Output)
		return
	}
	if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "?   ") {
		r.print(e.Output)
	}
}

// flush prints what a failed test said. A package that fails prints what its unfinished tests said, too.
func (r *report) flush(e event) {
	for key, lines := range r.held {
		if key == e.key() || e.Test == "" && strings.HasPrefix(key, e.Package+" ") {
			r.print(lines...)
			delete(r.held, key)
		}
	}
}

// skip notes a skipped test with the reason that it gave. A package without tests is none.
func (r *report) skip(e event) {
	if e.Test == "" {
		return
	}
	reason := "no reason given"
	for _, line := range r.held[e.key()] {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "--- ") {
			reason = line
		}
	}
	r.skipped = append(r.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason))
	delete(r.held, e.key())
}

// suite notes how the suite that each database engine passes ended for one of them.
func (r *report) suite(e event, end string) {
	if before, engine, found := strings.Cut(e.Package, "/internal/db/"); found && before != "" && e.Test == "TestConformance" {
		r.engines[engine] = end
	}
}

func (r *report) summary() {
	if len(r.engines) > 0 {
		r.print("\nengines:")
		for _, engine := range slices.Sorted(maps.Keys(r.engines)) {
			r.print(" ", engine, " ", r.engines[engine], ";")
		}
		r.print("\n")
	}
	if len(r.skipped) == 0 {
		return
	}
	r.print(fmt.Sprintf("\nskipped: %d\n", len(r.skipped)))
	for _, line := range r.skipped {
		r.print("  " + line + "\n")
	}
}

func (r *report) print(lines ...string) {
	for _, line := range lines {
		_, _ = io.WriteString(r.out, line)
	}
}
