package main

import (
	"fmt"
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

// newLogger returns a logger to standard error, and its level, which may be changed at any time.
func newLogger(cfg *config.Log) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, level, fmt.Errorf("log.level: %w", err)
	}
	log, err := logConfig(cfg, level).Build()
	return log, level, err
}

func logConfig(cfg *config.Log, level zap.AtomicLevel) zap.Config {
	c := zap.NewProductionConfig()
	c.Level = level
	c.Sampling = &zap.SamplingConfig{Initial: sampleFirst, Thereafter: sampleThen}
	c.DisableStacktrace = true
	c.EncoderConfig.TimeKey = "time"
	c.EncoderConfig.EncodeTime = func(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
		enc.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	c.EncoderConfig.EncodeDuration = zapcore.StringDurationEncoder
	if cfg.Format == "console" {
		c.Encoding = "console"
		c.EncoderConfig.EncodeLevel = zapcore.CapitalLevelEncoder
	}
	return c
}
