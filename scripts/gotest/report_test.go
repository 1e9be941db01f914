package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	t.Parallel()
	events := `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"a good test talks\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestSkipped","Output":"=== RUN   TestSkipped\n"}
{"Action":"output","Package":"p","Test":"TestSkipped","Output":"    x_test.go:3: no server is found\n"}
{"Action":"output","Package":"p","Test":"TestSkipped","Output":"--- SKIP: TestSkipped (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestSkipped"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
{"Action":"output","Package":"none","Output":"?   \tnone\t[no test files]\n"}
{"Action":"skip","Package":"none"}
{"Action":"output","Package":"q","Test":"TestBad","Output":"what is wrong\n"}
{"Action":"fail","Package":"q","Test":"TestBad"}
{"Action":"output","Package":"q","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
{"ImportPath":"r","Action":"build-output","Output":"r.go:1: does not compile\n"}
no event at all
`
	var out strings.Builder
	require.NoError(t, newReport(&out).read(strings.NewReader(events)))
	require.Equal(t, `ok  	p	0.1s
what is wrong
FAIL	q	0.1s
panic: test timed out
r.go:1: does not compile
no event at all

skipped: 1
  p TestSkipped: x_test.go:3: no server is found
`, out.String())
}

func TestReportNamesTheEngines(t *testing.T) {
	t.Parallel()
	events := `{"Action":"pass","Package":"m/internal/db/one","Test":"TestConformance"}
{"Action":"pass","Package":"m/internal/db/one","Test":"TestConformance/Read"}
{"Action":"output","Package":"m/internal/db/two","Test":"TestConformance","Output":"    x_test.go:3: no server\n"}
{"Action":"skip","Package":"m/internal/db/two","Test":"TestConformance"}
{"Action":"fail","Package":"m/internal/db/three","Test":"TestConformance"}
{"Action":"pass","Package":"m/internal/db","Test":"TestConformance"}
`
	var out strings.Builder
	require.NoError(t, newReport(&out).read(strings.NewReader(events)))
	require.Equal(t, `
engines: one tested; three failed; two NOT tested;

skipped: 1
  m/internal/db/two TestConformance: x_test.go:3: no server
`, out.String())
}
