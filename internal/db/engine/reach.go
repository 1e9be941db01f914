package engine

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"dbrunner/internal/db"
)

// ReachHost looks up a host and connects to its port, in the words of two stages. ok reports that a server listens.
func ReachHost(ctx context.Context, host, port string) (stages []db.Finding, ok bool) {
	started := time.Now()
	switch addresses, err := net.DefaultResolver.LookupHost(ctx, host); {
	case err != nil && ctx.Err() != nil:
		return []db.Finding{{Part: db.PartHost, Grade: db.GradeFault, Text: "no answer in time about the host " + host, Remedy: "check the resolver of this machine"}}, false
	case err != nil:
		return []db.Finding{{
			Part: db.PartHost, Grade: db.GradeFault, Text: "the host name " + host + " cannot be resolved",
			Remedy: "check the host in the connection string, and the resolver of this machine",
		}}, false
	default:
		stages = []db.Finding{{Part: db.PartHost, Grade: db.GradeOK, Text: host + " is " + strings.Join(addresses, ", "), Latency: time.Since(started)}}
	}
	started = time.Now()
	address := net.JoinHostPort(host, port)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return append(stages, notReached(ctx, address, err)), false
	}
	took := time.Since(started)
	_ = conn.Close() // it was only to see
	return append(stages, db.Finding{Part: db.PartTCP, Grade: db.GradeOK, Text: "connected to " + address, Latency: took}), true
}

func notReached(ctx context.Context, address string, err error) db.Finding {
	f := db.Finding{Part: db.PartTCP, Grade: db.GradeFault}
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Text, f.Remedy = "the connection to "+address+" was refused", "check that the server runs and listens there, and the port in the connection string"
	case ctx.Err() != nil, isNet && netErr.Timeout():
		f.Text, f.Remedy = "no answer from "+address+" in time", "check host and port, routes and firewalls between here and there"
	default:
		f.Text, f.Remedy = "no connection to "+address, "check host and port, and that the network reaches them from here"
	}
	return f
}

const (
	// ConnectFailed is what to do about a connection that failed for none of the known reasons.
	ConnectFailed = "the connection failed; check that the server runs, and the connection string"
	// ConnectionRefused is for a server that gives no reason that is known.
	ConnectionRefused = "the server refused the connection"
	noAnswer          = "the server did not answer in time; check host and port, firewalls, and the server's load"
)

// HostRemedy reports what to do where a host is not known or refuses connections; "" for any other error.
func HostRemedy(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "its host name is not known; check the host in the connection string"
		}
		return "its host name cannot be looked up now"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "the connection was refused; check that the server runs, and host and port in the connection string"
	}
	return ""
}

// TimeoutRemedy reports what to do where a server did not answer in time; "" for any other error.
func TimeoutRemedy(err error) string {
	netErr, isNet := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || isNet && netErr.Timeout() {
		return noAnswer
	}
	return ""
}
