package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// ConnectError is the reason why the first connection failed and what helps. It never holds a secret.
type ConnectError struct {
	URL    string // without credentials
	Reason string
	Remedy string
	Err    error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect to NATS at %s: %s; %s", e.URL, e.Reason, e.Remedy)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// explainConnect finds the cause behind the library's "no servers available".
func explainConnect(ctx context.Context, opts *Options, err error) error {
	e := &ConnectError{URL: redactURLs(opts.URL), Err: withoutURL(err)}
	if errors.Is(err, nats.ErrNoServers) {
		if cause := probe(ctx, opts.URL); cause != nil {
			err, e.Err = cause, cause
		}
	}
	e.Reason, e.Remedy = explain(err)
	return e
}

func explain(err error) (reason, remedy string) {
	var dns *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		return "the host name " + dns.Name + " cannot be resolved", "check the name in the URL"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "check the port and that nats-server is running"
	case refusesLogin(err):
		return "the server refused the credentials", "check user and password, token, nkey or credentials file"
	case errors.As(err, &unknown), errors.As(err, &host):
		return "the server's certificate is not trusted: " + ErrorText(err),
			"set the CA file, or use the host name that the certificate names"
	case errors.As(err, &record), errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
		return "only one side uses TLS", "use a tls:// URL or set the CA file, or neither"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return "a file cannot be read: " + ErrorText(withoutURL(err)),
			"check the paths of credentials, nkey seed, CA and certificate files"
	case errors.As(err, &op) && op.Timeout(), errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time", "check address and firewall"
	}
	return ErrorText(withoutURL(err)), "check the URL, the server and its log"
}

// refusesLogin reports whether the server does not take our credentials.
func refusesLogin(err error) bool {
	if err == nil {
		return false
	}
	for _, known := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		// What comes up while the library connects again has the server's text alone.
		if errors.Is(err, known) || strings.Contains(strings.ToLower(err.Error()), strings.TrimPrefix(known.Error(), "nats: ")) {
			return true
		}
	}
	return false
}

// withoutURL hides an error that would print the URL it failed to parse, and the password in it.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return errors.New("the URL cannot be parsed")
	}
	return err
}

// probe dials the servers itself: the library hides a refused connection.
func probe(ctx context.Context, urls string) error {
	var last error
	for raw := range strings.SplitSeq(urls, ",") {
		address := hostPort(strings.TrimSpace(raw))
		if address == "" {
			continue
		}
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			last = err
			continue
		}
		_ = conn.Close()
	}
	return last
}

func hostPort(raw string) string {
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "4222"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// redactURLs is a list of URLs without what may be secret in them.
func redactURLs(urls string) string {
	var out []string
	for raw := range strings.SplitSeq(urls, ",") {
		raw = strings.TrimSpace(raw)
		if address := hostPort(raw); address != "" {
			out = append(out, address)
		} else {
			out = append(out, "(unreadable URL)")
		}
	}
	return strings.Join(out, ",")
}
