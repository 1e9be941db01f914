package sqlite

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// Defaults of what the options leave out.
const (
	defaultMaxConns    = 15
	defaultLockTimeout = 5 * time.Second
)

// smallestPool is the writer and one reader.
const smallestPool = 2

// settings are what Open makes of its options.
type settings struct {
	path        string
	create      bool
	synchronous string
	readers     int
	lockTimeout time.Duration
}

func parseOptions(opts db.Options) (settings, error) {
	s := settings{create: true, synchronous: "FULL", readers: opts.Pool.Max - 1, lockTimeout: opts.Limits.LockTimeout}
	if opts.Pool.Max == 0 {
		s.readers = defaultMaxConns - 1
	}
	if s.lockTimeout <= 0 {
		s.lockTimeout = defaultLockTimeout
	}
	path, err := filePath(opts.ConnectionString)
	s.path = path
	errs := []error{err, s.parse(opts.Settings)}
	if opts.Pool.Max != 0 && opts.Pool.Max < smallestPool {
		errs = append(errs, fmt.Errorf("pool: at least %d connections: one writes, the others read", smallestPool))
	}
	if opts.Name == "" || opts.Namespace == "" {
		errs = append(errs, errors.New("name and namespace must be set"))
	}
	if opts.Ledger < db.LedgerManage || opts.Ledger > db.LedgerOff {
		errs = append(errs, errors.New("ledger must be manage, verify or off"))
	}
	if opts.TransactionPool {
		errs = append(errs, errors.New("SQLite has no pooler"))
	}
	return s, errors.Join(errs...)
}

func (s *settings) parse(in map[string]string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(in)) {
		switch name {
		case "create":
			create, err := strconv.ParseBool(in[name])
			if err != nil {
				errs = append(errs, errors.New("setting create must be true or false"))
			}
			s.create = create
		case "synchronous":
			s.synchronous = strings.ToUpper(in[name])
			if !slices.Contains([]string{"FULL", "EXTRA", "NORMAL"}, s.synchronous) {
				errs = append(errs, errors.New("setting synchronous must be full, extra or normal"))
			}
		default:
			errs = append(errs, fmt.Errorf("unknown setting %q: known are create and synchronous", name))
		}
	}
	return errors.Join(errs...)
}

// filePath reads a connection string: the path of a file, or a file: URI without parameters. Errors do not
// quote it.
func filePath(connection string) (string, error) {
	path, err := readPath(connection)
	if err != nil {
		return "", &db.ConnectionStringError{Err: err}
	}
	return path, nil
}

func readPath(connection string) (string, error) {
	if err := engine.CheckConnectionString(connection, "file:"); err != nil {
		return "", fmt.Errorf("%w: write the path of a file", err)
	}
	path := connection
	if strings.HasPrefix(connection, "file:") {
		u, err := url.Parse(connection)
		if err != nil {
			return "", errors.New("connection string: not a valid file: URI")
		}
		if u.RawQuery != "" || u.Fragment != "" {
			return "", errors.New("connection string: a file: URI must not have parameters; see the engine's settings")
		}
		if u.Host != "" && u.Host != "localhost" {
			return "", errors.New("connection string: a file: URI has no host: write file:/path or file:///path")
		}
		path = u.Path
		if u.Opaque != "" {
			if path, err = url.PathUnescape(u.Opaque); err != nil {
				return "", errors.New("connection string: not a valid file: URI")
			}
		}
	}
	switch {
	case path == "":
		return "", errors.New("connection string: the path of a database file is missing")
	case strings.HasPrefix(path, ":"):
		return "", errors.New("connection string: a database in memory has one connection only: use a file")
	case strings.IndexByte(path, 0) >= 0:
		return "", errors.New("connection string: not a path")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", errors.New("connection string: the path cannot be made absolute")
	}
	return abs, nil
}
