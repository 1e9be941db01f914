package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/jobs"
)

var (
	natsCommand = regexp.MustCompile("(?m)(?:^|`)nats ((?:pub|sub|request|stream|consumer|kv|object|service|backup)\\b[^`\n]*)")
	ourSubject  = regexp.MustCompile(`dbrunner\.[\w$-]+\.[^\s'"}]+`)
	ourStream   = regexp.MustCompile(`\b(?:KV_)?DBRUNNER_\w+`)
)

// TestNATSCommandsInDocs: the lines for the stock client name subjects, streams and buckets that there are, and publish jobs
// into the stream, where a wrong one fails. That they work with the client itself was tried by hand.
func TestNATSCommandsInDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	require.NoError(t, err)
	subjects := []*regexp.Regexp{
		regexp.MustCompile(`^dbrunner\.jobs\.[\w$]+\.(` + strings.Join(jobs.Kinds(), "|") + `)(\.\w+)?$`),
		regexp.MustCompile(`^dbrunner\.queues\.\w+\.\w+\.(query|transaction|statement)$`),
		regexp.MustCompile(`^dbrunner\.(results|replies)\.\w+\.\S+$`),
		regexp.MustCompile(`^dbrunner\.health\.(>|runner\.\S+|database\.\S+|migration\.\S+)$`),
		regexp.MustCompile(`^dbrunner\.audit\.(fleet\.topology|database\.\w+\.(` + strings.Join(contract.AuditActions(), "|") + `))$`),
		regexp.MustCompile(`^dbrunner\.api\.(databases|health\.\w+|running\.\w+|calls\.\w+|(cancel|result)\.\w+\.\S+|run\.\w+\.(` + strings.Join(jobs.Kinds(), "|") + `)|…)$`),
	}
	stream := regexp.MustCompile(`^(DBRUNNER_(JOBS|RESULTS)_\w+|DBRUNNER_(DEAD|HEALTH|CONTROL|STATE|SCHEDULES|AUDIT|ROWS|PARAMS))$`)
	found := 0
	for _, page := range append(pages, filepath.Join(repository, "README.md")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range natsCommand.FindAllStringSubmatch(string(text), -1) {
			found++
			line, _, _ := strings.Cut(m[1], "  #")
			for _, subject := range ourSubject.FindAllString(line, -1) {
				fits := func(r *regexp.Regexp) bool { return r.MatchString(subject) }
				require.True(t, slices.ContainsFunc(subjects, fits), "%s: %s", page, line)
			}
			for _, name := range ourStream.FindAllString(line, -1) {
				require.Regexp(t, stream, name, "%s: %s", page, line)
			}
			if strings.HasPrefix(line, "pub") && (strings.Contains(line, ".jobs.") || strings.Contains(line, ".queues.")) {
				require.Contains(t, line, "--jetstream", page)
			}
		}
	}
	require.Greater(t, found, 30)
}
