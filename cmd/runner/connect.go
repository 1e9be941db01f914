package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/internal/bus"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// clientFlags define where NATS is, for commands that are its clients.
type clientFlags struct {
	config, server    string
	creds, nkey, user string
	ca, cert, key     string
	inbox, namespace  string
}

const clientHelp = `
The NATS address comes from --config (the runner's own configuration) or, without it, from flags and the variables of the
nats command: NATS_URL, NATS_CREDS, NATS_NKEY, NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_CA, NATS_CERT, NATS_KEY.
Passwords and tokens have no flags because process lists would show them.`

func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file of the runner")
	flags.StringVar(&f.server, "server", "", "URL of NATS (default nats://127.0.0.1:4222)")
	flags.StringVar(&f.creds, "creds", "", "file with NATS credentials")
	flags.StringVar(&f.nkey, "nkey", "", "file with an nkey seed")
	flags.StringVar(&f.user, "user", "", "user name; the password comes from NATS_PASSWORD")
	flags.StringVar(&f.ca, "tlsca", "", "file with the authorities that sign the server's certificate")
	flags.StringVar(&f.cert, "tlscert", "", "file with the client's certificate")
	flags.StringVar(&f.key, "tlskey", "", "file with the key of the client's certificate")
	flags.StringVar(&f.inbox, "inbox-prefix", "", "prefix of reply subjects, if permissions require one other than _INBOX")
	flags.StringVar(&f.namespace, "namespace", "", "first token of all subjects (default dbrunner)")
}

// loadConfig reads a configuration as a runner needs it, or as a client does: then databases may be missing.
func loadConfig(file string, client bool) (*config.Config, error) {
	cfg, err := config.Load(config.Options{File: file, Environ: os.Environ(), Words: manager.Words(), Client: client})
	return cfg, usage(err)
}

// variable returns the value of an environment variable that connect has checked.
func variable(name string) string {
	value, _ := config.Plain(os.Getenv(name)) // empty with an error
	return value
}

// clientTimeout bounds a client command that does not wait for a job.
const clientTimeout = 30 * time.Second

// session is a command's connection to NATS.
type session struct {
	*client.Client
	conn *bus.Conn
	cfg  *config.Config // that it uses
	asks bool           // its inbox is not the runners': they answer its requests
}

// close closes the connection: what the command asked for was answered already.
func (s *session) close(ctx context.Context) { _ = s.conn.Close(context.WithoutCancel(ctx)) }

// connect connects to NATS. To ask, it takes an inbox for requests to the runners' service: they answer to none that is among
// their own, which is where the runner's configuration would have it.
func (f *clientFlags) connect(ctx context.Context, toAsk bool) (*session, error) {
	cfg, err := loadConfig(f.config, true)
	if err != nil {
		return nil, err
	}
	cfg.Namespace = cmp.Or(f.namespace, cfg.Namespace)
	for _, name := range []string{
		"NATS_URL", "NATS_CREDS", "NATS_NKEY", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CA", "NATS_CERT", "NATS_KEY",
	} {
		if _, err := config.Plain(os.Getenv(name)); err != nil && f.config == "" {
			return nil, usage(fmt.Errorf("%s: %w", name, err))
		}
	}
	opts := f.busOptions(cfg)
	if toAsk {
		opts.InboxPrefix = cmp.Or(f.inbox, "_INBOX")
	}
	conn, err := bus.Connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, cfg: cfg, asks: opts.InboxPrefix != manager.BusOptions(cfg, nil).InboxPrefix}
	s.Client, err = client.New(conn.NATS(), client.Options{Namespace: cfg.Namespace, Domain: opts.Domain})
	if err = errors.Join(err, conn.CheckInbox(ctx)); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// askTimeout bounds a question to a runner whose answer the command can do without: without permission none comes.
const askTimeout = 3 * time.Second

// recorded returns a result that is not stored any more from the ledger, if a runner may be asked and answers.
func (s *session) recorded(ctx context.Context, database, id string) (*client.Result, error) {
	if !s.asks {
		return nil, errors.New("the ledger was not read: runners do not answer to their own inboxes; --inbox-prefix sets another")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := s.RecordedResult(ctx, database, id)
	switch {
	case errors.Is(err, client.ErrNoResult):
		return nil, errors.New("the ledger has none either")
	case err != nil:
		return nil, fmt.Errorf("the ledger was not read: %w", err)
	}
	return r, nil
}

// with connects, does something within the client's time limit, and closes the connection.
func (f *clientFlags) with(ctx context.Context, do func(context.Context, *session) error) error {
	bounded, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	s, err := f.connect(bounded, false)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	err = do(bounded, s)
	if err != nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not done within %s; is JetStream enabled in the server and for this account? %w", clientTimeout, err)
	}
	return err
}

// busOptions are the configuration's with what flags and environment say instead.
func (f *clientFlags) busOptions(cfg *config.Config) bus.Options {
	opts := manager.BusOptions(cfg, nil)
	opts.Name = cfg.Namespace + " command line"
	env := variable
	if f.config != "" {
		env = func(string) string { return "" }
	} else {
		opts.InboxPrefix = "_INBOX"
	}
	opts.InboxPrefix = cmp.Or(f.inbox, opts.InboxPrefix)
	creds, nkey, user, token := f.creds, f.nkey, f.user, "" // a flag precedes the environment
	if creds == "" && nkey == "" && user == "" {
		creds, nkey, user, token = env("NATS_CREDS"), env("NATS_NKEY"), env("NATS_USER"), env("NATS_TOKEN")
	}
	if creds != "" || nkey != "" || user != "" || token != "" {
		opts.CredentialsFile, opts.NKeySeedFile, opts.User, opts.Password, opts.Token, opts.Reread = creds, nkey, user, "", token, nil
		if user != "" {
			opts.Password = variable("NATS_PASSWORD")
		}
	}
	opts.URL = cmp.Or(f.server, env("NATS_URL"), opts.URL)
	opts.TLS.CAFile = cmp.Or(f.ca, env("NATS_CA"), opts.TLS.CAFile)
	opts.TLS.CertFile = cmp.Or(f.cert, env("NATS_CERT"), opts.TLS.CertFile)
	opts.TLS.KeyFile = cmp.Or(f.key, env("NATS_KEY"), opts.TLS.KeyFile)
	return opts
}
