package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/internal/bus"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// clientFlags define where NATS is, for commands that are its clients.
type clientFlags struct {
	config    string
	server    string
	creds     string
	nkey      string
	user      string
	ca        string
	cert      string
	key       string
	inbox     string
	namespace string
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

// load reads the configuration as a client needs it: databases may be missing.
func (f *clientFlags) load() (*config.Config, error) {
	cfg, err := config.Load(config.Options{
		File: f.config, Environ: os.Environ(), Words: manager.Words(), Client: true,
	})
	if err != nil {
		return nil, usage(err)
	}
	if f.namespace != "" {
		cfg.Namespace = f.namespace
	}
	for _, name := range []string{
		"NATS_URL", "NATS_CREDS", "NATS_NKEY", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CA", "NATS_CERT", "NATS_KEY",
	} {
		if _, err := config.Plain(os.Getenv(name)); err != nil && f.config == "" {
			return nil, usage(fmt.Errorf("%s: %w", name, err))
		}
	}
	return cfg, nil
}

// variable returns the value of an environment variable that load has checked.
func variable(name string) string {
	value, err := config.Plain(os.Getenv(name))
	if err != nil {
		return ""
	}
	return value
}

// clientTimeout bounds a client command that does not wait for a job.
const clientTimeout = 30 * time.Second

// connect connects to NATS and returns the configuration that it used.
func (f *clientFlags) connect(ctx context.Context) (*bus.Conn, *config.Config, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	conn, err := dial(ctx, f.busOptions(cfg))
	return conn, cfg, err
}

// connectToAsk is connect for requests to the runners' service: they answer to no inbox that is among their own, which
// is where the runner's configuration would have them.
func (f *clientFlags) connectToAsk(ctx context.Context) (*bus.Conn, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	opts := f.busOptions(cfg)
	opts.InboxPrefix = "_INBOX"
	replace(&opts.InboxPrefix, f.inbox)
	return dial(ctx, opts)
}

// dial connects and finds out whether answers can arrive.
func dial(ctx context.Context, opts bus.Options) (*bus.Conn, error) {
	conn, err := bus.Connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := conn.CheckInbox(ctx); err != nil {
		closeQuietly(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// with connects, does something within the client's time limit, and closes the connection.
func (f *clientFlags) with(ctx context.Context, do func(context.Context, *bus.Conn, *config.Config) error) error {
	bounded, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	conn, cfg, err := f.connect(bounded)
	if err != nil {
		return err
	}
	defer closeQuietly(ctx, conn)
	err = do(bounded, conn, cfg)
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
	replace(&opts.InboxPrefix, f.inbox)
	f.signIn(&opts, env)
	replace(&opts.URL, f.server, env("NATS_URL"))
	replace(&opts.TLS.CAFile, f.ca, env("NATS_CA"))
	replace(&opts.TLS.CertFile, f.cert, env("NATS_CERT"))
	replace(&opts.TLS.KeyFile, f.key, env("NATS_KEY"))
	return opts
}

// signIn replaces the way to sign in by another one; a flag goes before the environment.
func (f *clientFlags) signIn(opts *bus.Options, env func(string) string) {
	given := f.creds != "" || f.nkey != "" || f.user != ""
	creds, nkey, user, token := f.creds, f.nkey, f.user, ""
	if !given {
		creds, nkey, user, token = env("NATS_CREDS"), env("NATS_NKEY"), env("NATS_USER"), env("NATS_TOKEN")
	}
	if creds == "" && nkey == "" && user == "" && token == "" {
		return
	}
	opts.CredentialsFile, opts.NKeySeedFile, opts.User, opts.Password, opts.Token, opts.Reread = creds, nkey, user, "", token, nil
	if user != "" {
		opts.Password = variable("NATS_PASSWORD")
	}
}

// replace sets a value to the first of the others that is not empty.
func replace(value *string, others ...string) {
	for _, other := range others {
		if other != "" {
			*value = other
			return
		}
	}
}

// closeQuietly closes a client's connection: what it asked for was answered already.
func closeQuietly(ctx context.Context, conn *bus.Conn) { _ = conn.Close(context.WithoutCancel(ctx)) }
