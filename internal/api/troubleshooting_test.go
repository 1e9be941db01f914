package api_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

// refusalCode finds the codes that answers of the service are written with.
var refusalCode = regexp.MustCompile(`refusal\{Code: "(\w+)"|\.refuse\(\d+, "(\w+)"|\.Code, \w+\.JobID = "(\w+)"`)

// refusalCodes reads the codes of the service that are no codes of jobs from where they are written.
func refusalCodes(t *testing.T) []string {
	t.Helper()
	var codes []string
	for _, name := range []string{"api.go", "runendpoint.go", "cancel.go", "running.go", "result.go"} {
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range refusalCode.FindAllStringSubmatch(string(source), -1) {
			codes = append(codes, strings.Join(m[1:], ""))
		}
	}
	for _, code := range contract.Codes() {
		codes = slices.DeleteFunc(codes, func(c string) bool { return c == string(code) })
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// TestTroubleshootingKnowsTheService: the page on troubles has a row for each code that only the service has, and for no
// other, and the contract names them all.
func TestTroubleshootingKnowsTheService(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "troubleshooting.md"))
	require.NoError(t, err)
	_, part, found := strings.Cut(string(page), "\n## Answers of the service\n")
	require.True(t, found)
	part, _, _ = strings.Cut(part, "\n## ")
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]*)` \\|").FindAllStringSubmatch(part, -1) {
		rows = append(rows, m[1])
	}
	require.Greater(t, len(rows), 5)
	require.ElementsMatch(t, refusalCodes(t), rows)
	contract, err := os.ReadFile(filepath.Join("..", "..", "docs", "messages.md"))
	require.NoError(t, err)
	for _, code := range rows {
		require.Contains(t, string(contract), "`"+code+"`")
	}
}
