package bus

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// What a publish or a look-up may end with besides a context's end.
var (
	// ErrNoStream: no stream takes the subject, so the database or the kind is unknown or the topology is missing.
	ErrNoStream = errors.New("no stream accepts this subject")
	// ErrStreamFull: the stream refused the message because it, its subject's quota or the account is full.
	ErrStreamFull = errors.New("the stream is full")
	// ErrTooLarge: the message is larger than the stream or the server takes.
	ErrTooLarge = errors.New("message too large")
	// ErrNotFound: the stream, consumer or message is not there.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the connection was closed by its owner.
	ErrClosed = errors.New("NATS connection closed")
	// ErrDenied: the server's permissions do not let us publish there.
	ErrDenied = errors.New("denied by NATS permissions")
	// ErrNoJetStream: requests to the JetStream API get no answer.
	ErrNoJetStream = errors.New("JetStream is not enabled for this account, or the domain is wrong")
	// ErrSubject: a subject, name or id that may not be published to.
	ErrSubject = errors.New("subject not allowed")
)

// Error codes of the JetStream API that mean something to us.
const (
	CodeAccountResources    = 10002
	CodeNoPeers             = 10005 // no servers for the replicas: not all are up yet
	CodeNoMetaLeader        = 10008
	CodeNotLeader           = 10009
	CodeConsumerNotFound    = 10014
	CodeInsufficient        = 10023
	CodeMaximumConsumers    = 10026
	CodeMaximumStreams      = 10027
	CodeMemoryExceeded      = 10028
	CodeNoMessage           = 10037
	CodeSequenceNotFound    = 10043
	CodeStorageExceeded     = 10047
	CodeDeleteFailed        = 10057
	CodeMessageTooLarge     = 10054
	CodeInvalidConfig       = 10052
	CodeNoReplicas          = 10074
	CodeMaxBytesRequired    = 10113
	CodeOffline             = 10118
	CodeNoLimits            = 10120
	CodeTooManyPending      = 10121
	CodeMaxBytesExceeded    = 10122
	CodeStreamNameInUse     = 10058
	CodeStreamNotFound      = 10059
	CodeWrongLastSequence   = 10071
	CodeStoreFailed         = 10077
	CodeConsumerNotUnique   = 10100
	CodeConsumerExists      = 10148
	CodeNotReady            = 10163 // a new leader does not know yet what is in flight
	CodeTooManyRequests     = 10167
	CodeWriteInFlight       = 10164
	perSubjectLimitFragment = "per subject" // of the description of 10077: the code is the same as for a full store
)

// APIError is an error that the JetStream API answered.
type APIError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *APIError) Error() string {
	return fmt.Sprintf("JetStream: %s (%d)", e.Description, e.ErrCode)
}

// Is makes the answers of the API comparable with this package's errors.
func (e *APIError) Is(target error) bool {
	switch e.ErrCode {
	case CodeConsumerNotFound, CodeNoMessage, CodeStreamNotFound:
		return target == ErrNotFound
	case CodeMessageTooLarge:
		return target == ErrTooLarge
	case CodeStoreFailed, CodeAccountResources, CodeInsufficient, CodeMemoryExceeded, CodeStorageExceeded:
		return target == ErrStreamFull
	}
	return false
}

// ClosedAs returns ErrClosed for the library's error of a closed connection, and any other error as it is.
func ClosedAs(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		return ErrClosed
	}
	return err
}
