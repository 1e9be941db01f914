package sqlserver

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/azuread"
	"github.com/microsoft/go-mssqldb/msdsn"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// Defaults of what the options leave out.
const (
	defaultMaxConns       = 15
	defaultConnectTimeout = 10 * time.Second
	defaultPingAfterIdle  = 30 * time.Second
	defaultLifetime       = time.Hour
	defaultIdleTime       = 30 * time.Minute
	maxApplicationName    = 128 // characters; the server takes no more
)

// settings are the engine's own settings.
type settings struct {
	label          bool // label_sessions: CONTEXT_INFO names the job while it runs
	showMessages   bool // show_raised_messages: the text of RAISERROR and THROW is shown to publishers
	readOnlyLogin  bool // require_read_only_login: queries are refused while the login could write
	plain          bool // allow_unencrypted
	anyCertificate bool // allow_unverified_certificate
}

func parseSettings(in map[string]string) (settings, error) {
	var s settings
	known := map[string]*bool{
		"label_sessions": &s.label, "show_raised_messages": &s.showMessages, "require_read_only_login": &s.readOnlyLogin,
		"allow_unencrypted": &s.plain, "allow_unverified_certificate": &s.anyCertificate,
	}
	return s, engine.ParseSwitches(in, known)
}

const connectionForm = "write sqlserver://user:password@host:1433?database=name&encrypt=true"

// newConnector reads the connection string, refuses what is not safe, and sets what the engine relies on. The
// driver's own errors quote parts of the connection string and are not kept.
func newConnector(opts *db.Options, own settings) (*mssql.Connector, error) {
	given, err := readConnection(opts.ConnectionString)
	if err == nil {
		err = checkConnection(given, own)
	}
	if err != nil {
		return nil, &db.ConnectionStringError{Err: err}
	}
	// One way for all logins: the same parameters, written again, through the package that knows those of Entra ID
	// and leaves all others to the driver.
	connector, err := azuread.NewConnector(rewritten(given.Parameters, opts))
	if err != nil {
		return nil, errors.New("the login of the connection string cannot be used: check fedauth and what belongs to it")
	}
	return connector, nil
}

// readConnection reads a connection string. What the driver would take although it cannot be meant is refused: it would
// connect to another server than was meant, the local one above all.
func readConnection(text string) (*msdsn.Config, error) {
	if text == "" {
		return nil, engine.NoConnectionString(connectionForm)
	}
	if err := engine.CheckConnectionString(text, "sqlserver://", "odbc:"); err != nil {
		return nil, fmt.Errorf("%w: %s", err, connectionForm)
	}
	given, err := msdsn.Parse(text)
	if err != nil { // the driver's text quotes parts of the connection string
		return nil, engine.UnreadConnectionString(connectionForm +
			"; where it names a file with a certificate, check that the file can be read")
	}
	if !serverName.MatchString(given.Parameters[msdsn.Server]) {
		return nil, errors.New("the connection string has no valid server: " + connectionForm)
	}
	if strings.ContainsAny(given.Database, "=@/;?&") {
		return nil, errors.New("the connection string has invalid characters in the database name (= @ / ; ? &): " + connectionForm)
	}
	for key := range given.Parameters {
		if !keyName.MatchString(key) {
			return nil, errors.New("the connection string has an invalid key: " + connectionForm +
				"; in a URL, / ? # & @ in a password are written %2F %3F %23 %26 %40")
		}
	}
	return &given, nil
}

var (
	serverName = regexp.MustCompile(`^[A-Za-z0-9._:%()\[\]\\-][A-Za-z0-9._:%()\[\]\\$ -]*$`)
	keyName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 _-]*$`)
)

// connectors make sessions as the connection string says at the time: its password may have been replaced.
type connectors struct {
	opts *db.Options
	own  settings

	mu   sync.Mutex
	text string // that the connector was made from
	made *mssql.Connector
}

func newConnectors(opts *db.Options, own settings) (*connectors, error) {
	made, err := newConnector(opts, own)
	return &connectors{opts: opts, own: own, text: opts.ConnectionString, made: made}, err
}

// now returns a copy of the connector of this moment. A connection string that cannot be read any more is passed over:
// the one before it may still do. An unchanged one keeps its connector, and the tokens that it has.
func (c *connectors) now() *mssql.Connector {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.Reread != nil {
		if text := c.opts.Reread(); text != c.text {
			opts := *c.opts
			opts.ConnectionString = text
			if made, err := newConnector(&opts, c.own); err == nil {
				c.text, c.made = text, made
			}
		}
	}
	fresh := *c.made
	return &fresh
}

// checkConnection refuses what would show statements and values, or trust any server.
func checkConnection(c *msdsn.Config, own settings) error {
	_, encryptGiven := c.Parameters[msdsn.Encrypt]
	encrypted := c.Encryption == msdsn.EncryptionRequired || c.Encryption == msdsn.EncryptionStrict
	verified := encrypted && !c.TrustServerCertificate
	switch {
	case c.LogFlags != 0:
		return errors.New("the connection string has log=: the driver would write statements and values to the log; remove it")
	case c.Database == "":
		return errors.New("the connection string names no database: add database=name")
	case !encrypted && !own.plain && !encryptGiven:
		return errors.New("the connection string does not ask for encryption: add encrypt=true or encrypt=strict, " +
			"or set allow_unencrypted")
	case !encrypted && !own.plain:
		return errors.New("the connection string turns encryption off: set encrypt=true or encrypt=strict, or set allow_unencrypted")
	case encrypted && !verified && !own.anyCertificate:
		return errors.New("the connection string trusts any certificate: remove TrustServerCertificate and name the " +
			"authority's file with certificate=, or set allow_unverified_certificate")
	}
	return nil
}

// rewritten is the connection string in the driver's ODBC form, with what the engine relies on: retries are ours,
// GUIDs in their written order, times as they are, one dial timeout, and no time limit on reading, which would end
// long statements.
func rewritten(given map[string]string, opts *db.Options) string {
	p := maps.Clone(given)
	delete(p, msdsn.ConnectionTimeout)
	delete(p, msdsn.LogParam)
	p[msdsn.DisableRetry] = "true"
	p[msdsn.GuidConversion] = "true"
	p[msdsn.Timezone] = "UTC"
	name := "dbrunner/" + opts.Runner
	p[msdsn.AppName] = name[:min(len(name), maxApplicationName)]
	p[msdsn.DialTimeout] = strconv.Itoa(int(max(1, connectTimeout(opts).Seconds())))
	if _, set := p[msdsn.MultiSubnetFailover]; !set {
		p[msdsn.MultiSubnetFailover] = "false" // as other clients; dialing all addresses at the same time fills the server's log
	}
	var b strings.Builder
	b.WriteString("odbc:")
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if p[key] != "" {
			fmt.Fprintf(&b, "%s={%s};", key, strings.ReplaceAll(p[key], "}", "}}"))
		}
	}
	return b.String()
}

func connectTimeout(opts *db.Options) time.Duration {
	return either(opts.Pool.ConnectTimeout, defaultConnectTimeout)
}

func either(d, fallback time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return fallback
}
