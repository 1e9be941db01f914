package main

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"dbrunner/internal/config"
)

// Sampling of equal entries: of each message the first hundred within a second are written, then each hundredth, so
// that a flood of failing jobs costs no more than that.
const (
	sampleFirst = 100
	sampleThen  = 100
)

// newLogger returns a logger that writes to out, its level, which may be changed at any time, and the function that
// writes what is left and ends it.
func newLogger(cfg *config.Log, out io.Writer) (*zap.Logger, zap.AtomicLevel, func(), error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, level, nil, fmt.Errorf("log.level: %w", err)
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "time"
	c.EncodeTime = func(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
		enc.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	c.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if cfg.Format == "console" {
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(c)
	}
	lines := newLineWriter(out, zap.New(zapcore.NewCore(encoder.Clone(), zapcore.AddSync(out), level)))
	core := zapcore.NewSamplerWithOptions(zapcore.NewCore(encoder, lines, level), time.Second, sampleFirst, sampleThen)
	return zap.New(core, zap.AddCaller(), zap.ErrorOutput(lines)), level, lines.close, nil
}
