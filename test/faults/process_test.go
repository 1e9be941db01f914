package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAProcessIsAskedToEndOnce(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	p, err := start("asked", log, nil, "/bin/sh", "-c", `trap 'echo asked' TERM; echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do /bin/sleep 0.1; done`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !p.silent() }, 10*time.Second, 5*time.Millisecond)
	var all sync.WaitGroup
	all.Go(func() { p.end(30 * time.Second) })
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), "asked")
	}, 10*time.Second, 5*time.Millisecond)
	all.Go(func() { p.end(30 * time.Second) })
	all.Wait()
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), "asked"))
	require.Zero(t, p.code())
}
