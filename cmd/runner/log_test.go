package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"dbrunner/internal/config"
)

// A flood of equal lines is thinned out, errors among them too; the level is changed while the logger is in use.
func TestLogIsSampledAndItsLevelChanges(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(file)
	require.NoError(t, err)
	defer func() { require.NoError(t, out.Close()) }()
	log, level, closeLog, err := newLogger(&config.Log{Level: "info", Format: "json"}, out)
	require.NoError(t, err)
	lines := func(word string) int {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return bytes.Count(text, []byte(word))
	}
	const flood = 5000
	for range flood {
		log.Debug("quiet")
		log.Named("worker").Info("job ended", zap.String("status", "failed"))
		log.Error("defect", zap.Error(errors.New("made by the test")))
	}
	level.SetLevel(zapcore.DebugLevel)
	log.Debug("loud")
	closeLog()
	for _, word := range []string{`"job ended"`, `"defect"`} {
		require.GreaterOrEqual(t, lines(word), sampleFirst)
		require.Less(t, lines(word), flood/5)
	}
	require.Zero(t, lines("quiet"))
	require.Equal(t, 1, lines("loud"))
}
