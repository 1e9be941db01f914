package manager

import (
	"strings"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/bus"
	"dbrunner/internal/config"
)

// BusOptions says in bus' words how a configuration reaches NATS.
func BusOptions(cfg *config.Config, log *zap.Logger) bus.Options {
	n := &cfg.NATS
	opts := bus.Options{
		URL:             strings.Join(n.URLs, ","),
		CredentialsFile: n.CredentialsFile,
		NKeySeedFile:    n.NKeySeedFile,
		User:            n.User,
		Password:        n.Password.Reveal(),
		Token:           n.Token.Reveal(),
		TLS: bus.TLS{
			CAFile: n.TLS.CAFile, CertFile: n.TLS.CertFile, KeyFile: n.TLS.KeyFile,
			ServerName: n.TLS.ServerName, HandshakeFirst: n.TLS.HandshakeFirst,
		},
		Namespace:        cfg.Namespace,
		Instance:         cfg.Instance,
		InboxPrefix:      n.InboxPrefix,
		Domain:           n.Domain,
		ConnectTimeout:   n.ConnectTimeout,
		ReconnectWait:    n.ReconnectWait,
		ReconnectMaxWait: max(n.ReconnectWait, minReconnectLimit),
		PingInterval:     n.PingInterval,
		MaxInFlight:      max(minInFlight, cfg.Worker.SettleInFlight),
		Logger:           log,
		Now:              LeaseClock(),
	}
	if !n.Password.Empty() {
		opts.Reread = n.Password.Current
	}
	if !n.Token.Empty() {
		opts.Reread = n.Token.Current
	}
	return opts
}

// minReconnectLimit is the least bound of the pauses between attempts to reach NATS, which double.
const minReconnectLimit = 3 * time.Second

// minInFlight is the least bound of publishes that wait for their answer: jobs in their slots publish too.
const minInFlight = 1024
