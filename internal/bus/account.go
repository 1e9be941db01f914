package bus

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Account is what JetStream grants and has given to the account. Limits below zero: none.
type Account struct {
	Streams, MaxStreams     int
	Consumers, MaxConsumers int
	Bytes, MaxBytes         int64 // of files, over all replicas of a stream
}

// Account asks for the limits. A runner needs no right to do so.
func (c *Conn) Account(ctx context.Context) (*Account, error) {
	var info jetstream.AccountInfo
	if err := c.api(ctx, "INFO", nil, &info); err != nil {
		return nil, err
	}
	return &Account{
		Streams: info.Streams, MaxStreams: info.Limits.MaxStreams, Consumers: info.Consumers, MaxConsumers: info.Limits.MaxConsumers,
		Bytes: int64(info.Store), MaxBytes: info.Limits.MaxStore,
	}, nil
}

// AccountRight is the right that Account needs.
func AccountRight(opts Options) Right { return Right{Subject: apiPrefix(opts.Domain) + "INFO"} }
