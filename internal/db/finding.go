package db

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Grade is what a finding means to whoever has to act.
type Grade string

// The grades, from the best to the worst.
const (
	GradeOK      Grade = "ok"
	GradeNote    Grade = "note"    // worth to know
	GradeWarning Grade = "warning" // jobs run, and somebody should look at it
	GradeFault   Grade = "fault"   // jobs do not run, or must be expected to fail
)

// Finding is one thing that a look has found. Its texts hold no secret, no SQL and no value of a job.
type Finding struct {
	Part    string        `json:"part"` // what was looked at, e.g. "tls", "locks"
	Grade   Grade         `json:"grade"`
	Text    string        `json:"text"`
	Remedy  string        `json:"remedy,omitempty"` // what to do about it
	Latency time.Duration `json:"latency_ns,omitempty"`
}

// The parts of a look at a database that all engines have in common.
const (
	PartHost     = "dns"
	PartTCP      = "tcp"
	PartTLS      = "tls"
	PartFile     = "file" // of a database without a server
	PartLogin    = "login"
	PartQuery    = "query"
	PartServer   = "server"
	PartSettings = "settings"
	PartLocks    = "locks"
	PartSessions = "sessions" // long statements, transactions that nobody ends
	PartLedger   = "ledger"
)

// Diagnoser is a Database that says more of itself than jobs need. All of it is for people, takes place beside the pool
// unless said otherwise, and changes nothing.
type Diagnoser interface {
	// Caveats says without connecting what is less safe than it could be in the way that the database is reached.
	Caveats() []Finding

	// Stages goes the way to the server stage by stage and ends with the first that fails, which is a fault.
	Stages(ctx context.Context) []Finding

	// Diagnose looks at the server: version, settings that matter, locks, long statements, the size of the ledger. What
	// the login may not see is a note. An error means that there was no connection.
	Diagnose(ctx context.Context, how Diagnosis) ([]Finding, error)

	// DryRun does what Probe does over a connection of the pool and creates nothing: it returns in words what Probe
	// would create, and as an error what Probe would refuse.
	DryRun(ctx context.Context) (creates []string, err error)
}

// Diagnosis says what a look goes into.
type Diagnosis struct {
	PoolMax   int  // connections of one runner at most
	Integrity bool // also look at the stored data itself, where the engine can, which may take long
}

// What a look takes for long.
const (
	LongStatement = time.Minute      // a statement under way
	IdleOpen      = time.Second      // a transaction that waits for its client
	MostLedger    = int64(1_000_000) // rows of a ledger that are counted one by one
)

// ReachHost looks up a host and connects to its port, in the words of two stages. ok says that somebody listens.
func ReachHost(ctx context.Context, host, port string) (stages []Finding, ok bool) {
	begun := time.Now()
	switch addresses, err := net.DefaultResolver.LookupHost(ctx, host); {
	case err != nil && ctx.Err() != nil:
		return []Finding{{Part: PartHost, Grade: GradeFault, Text: "no answer in time about the host " + host, Remedy: "check the resolver of this machine"}}, false
	case err != nil:
		return []Finding{{
			Part: PartHost, Grade: GradeFault, Text: "the host name " + host + " cannot be resolved",
			Remedy: "check the host in the connection string, and the resolver of this machine",
		}}, false
	default:
		stages = []Finding{{Part: PartHost, Grade: GradeOK, Text: host + " is " + strings.Join(addresses, ", "), Latency: time.Since(begun)}}
	}
	begun = time.Now()
	address := net.JoinHostPort(host, port)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return append(stages, notReached(ctx, address, err)), false
	}
	took := time.Since(begun)
	_ = conn.Close() // it was only to see
	return append(stages, Finding{Part: PartTCP, Grade: GradeOK, Text: "connected to " + address, Latency: took}), true
}

// LedgerSize is the size of a ledger in words: rows of this database up to MostLedger, bytes of the whole table, and when
// the oldest row was recorded, empty if there is none.
func LedgerSize(rows, bytes int64, oldest string) string {
	text := strconv.FormatInt(rows, 10) + " rows"
	if rows >= MostLedger {
		text = "at least " + text
	}
	text += " of this database, " + strconv.FormatInt((bytes+(1<<10)-1)>>10, 10) + " KiB in all"
	if oldest != "" {
		text += ", the oldest of " + oldest
	}
	return text
}

func notReached(ctx context.Context, address string, err error) Finding {
	f := Finding{Part: PartTCP, Grade: GradeFault}
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
