package bus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"dbrunner/contract"
)

// TLS names the files for an encrypted connection. A tls:// URL or any of the files turns encryption on.
type TLS struct {
	CAFile   string // PEM; empty = the system's authorities
	CertFile string // PEM of the client's certificate, with KeyFile
	KeyFile  string

	ServerName     string // that the server's certificate must carry; empty = the host of the URL
	HandshakeFirst bool   // TLS before the server's greeting; the server must be set alike
}

// Options define how to reach NATS and who we are. At most one way to authenticate may be set.
type Options struct {
	URL  string // one or more URLs, separated by commas
	Name string // shown by the server's monitoring; default "dbrunner <instance>"

	CredentialsFile string
	NKeySeedFile    string
	User            string
	Password        string
	Token           string
	Reread          func() string // returns the password or the token for a new login; nil: they never change
	TLS             TLS

	Namespace   string // first token of all subjects, default "dbrunner"
	Instance    string // this runner's name
	InboxPrefix string // default "_INBOX_<namespace>_<instance>": a prefix of our own, for narrow permissions
	Domain      string // JetStream domain, usually empty

	ConnectTimeout   time.Duration // of one attempt with one server, default 5 s
	ReconnectWait    time.Duration // before the second attempt, doubles with jitter, default 100 ms
	ReconnectMaxWait time.Duration // default 3 s
	PingInterval     time.Duration // how often a silent link is tried, default 5 s; two lost pings end it
	MaxInFlight      int           // publishes to JetStream that wait for their answer, default 1,024

	// Now is a clock that goes on while the machine is suspended, by which the intakes notice that; default: time.Now.
	Now func() time.Time

	Logger *zap.Logger // default: nothing is logged
}

func (o *Options) setDefaults() {
	setDefault(&o.URL, nats.DefaultURL)
	setDefault(&o.Namespace, contract.DefaultNamespace)
	setDefault(&o.Instance, "client")
	setDefault(&o.Name, o.Namespace+" "+o.Instance)
	setDefault(&o.InboxPrefix, "_INBOX_"+o.Namespace+"_"+o.Instance)
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.ReconnectWait, 100*time.Millisecond)
	setDefault(&o.ReconnectMaxWait, 3*time.Second)
	setDefault(&o.PingInterval, 5*time.Second)
	setDefault(&o.MaxInFlight, 1024)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}

// WithDefaults returns the options with defaults in place of zero fields.
func (o Options) WithDefaults() Options {
	o.setDefaults()
	return o
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func (o *Options) validate() error {
	var errs []error
	errs = append(errs, CheckName("namespace", o.Namespace), CheckName("instance", o.Instance))
	for one := range strings.SplitSeq(o.URL, ",") {
		errs = append(errs, checkURL(strings.Trim(one, " ")))
	}
	ways := 0
	for _, set := range []bool{o.CredentialsFile != "", o.NKeySeedFile != "", o.User != "", o.Token != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		errs = append(errs, errors.New("credentials file, nkey seed file, user and token exclude each other; set one"))
	}
	if (o.TLS.CertFile == "") != (o.TLS.KeyFile == "") {
		errs = append(errs, errors.New("a client certificate needs a certificate file and a key file"))
	}
	return errors.Join(errs...)
}

// checkURL refuses characters that no URL has. It does not repeat the URL.
func checkURL(text string) error {
	for i, r := range text {
		if r <= ' ' || r > '~' || strings.ContainsRune("\"'`", r) {
			return fmt.Errorf("the URL of NATS has %U as its %d. byte, which belongs in none; remove quotes, blanks and line ends", r, i+1)
		}
	}
	return nil
}

// natsOptions translates to the client library, without the handlers of events.
func (o *Options) natsOptions() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(o.ConnectTimeout),
		nats.CustomInboxPrefix(o.InboxPrefix),
		nats.MaxReconnects(-1),
		// Nothing is kept for later while the link is down: a NAK that is sent after the reconnect would hit the
		// delivery of the runner that has the message by then.
		nats.ReconnectBufSize(-1),
		// Without this the library closes the connection for good when a server refuses us twice, for example
		// while an operator rotates a password.
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(o.reconnectDelay),
		// A dead link is noticed within three intervals even if nothing is being sent.
		nats.PingInterval(o.PingInterval),
		nats.MaxPingsOutstanding(2),
	}
	auth, err := o.authOptions()
	if err != nil {
		return nil, err
	}
	opts = append(opts, auth...)
	if o.TLS.ServerName != "" {
		opts = append(opts, nats.Secure(&tls.Config{ServerName: o.TLS.ServerName, MinVersion: tls.VersionTLS12}))
	}
	if o.TLS.HandshakeFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	if o.TLS.CAFile != "" {
		opts = append(opts, nats.RootCAs(o.TLS.CAFile))
	}
	if o.TLS.CertFile != "" {
		opts = append(opts, nats.ClientCert(o.TLS.CertFile, o.TLS.KeyFile))
	}
	return opts, nil
}

func (o *Options) authOptions() ([]nats.Option, error) {
	switch {
	case o.CredentialsFile != "":
		return []nats.Option{nats.UserCredentials(o.CredentialsFile)}, nil
	case o.NKeySeedFile != "":
		nkey, err := nats.NkeyOptionFromSeed(o.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("read the nkey seed file: %w", err)
		}
		return []nats.Option{nkey}, nil
	case o.User != "":
		return []nats.Option{nats.UserInfoHandler(func() (string, string) { return o.User, o.current(o.Password) })}, nil
	case o.Token != "":
		return []nats.Option{nats.TokenHandler(func() string { return o.current(o.Token) })}, nil
	}
	return nil, nil
}

// current is a password or token as it is now.
func (o *Options) current(secret string) string {
	if o.Reread == nil {
		return secret
	}
	return o.Reread()
}

// reconnectDelay is asked after each round over all known servers.
func (o *Options) reconnectDelay(attempts int) time.Duration {
	d := o.ReconnectMaxWait
	if shift := min(max(attempts-1, 0), 16); o.ReconnectWait<<shift < d {
		d = o.ReconnectWait << shift
	}
	return d/2 + rand.N(d/2+1)
}
