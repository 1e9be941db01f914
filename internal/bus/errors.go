package bus

import (
	"errors"
	"fmt"
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
	codeAccountResources    = 10002
	codeNoPeers             = 10005 // no servers for the replicas: not all are up yet
	codeNoMetaLeader        = 10008
	codeNotLeader           = 10009
	codeConsumerNotFound    = 10014
	codeInsufficient        = 10023
	codeMaximumConsumers    = 10026
	codeMaximumStreams      = 10027
	codeMemoryExceeded      = 10028
	codeNoMessage           = 10037
	CodeSequenceNotFound    = 10043
	codeStorageExceeded     = 10047
	CodeDeleteFailed        = 10057
	codeMessageTooLarge     = 10054
	codeInvalidConfig       = 10052
	codeNoReplicas          = 10074
	codeMaxBytesRequired    = 10113
	codeOffline             = 10118
	codeNoLimits            = 10120
	codeTooManyPending      = 10121
	codeMaxBytesExceeded    = 10122
	codeStreamNameInUse     = 10058
	codeStreamNotFound      = 10059
	codeWrongLastSequence   = 10071
	codeStoreFailed         = 10077
	codeConsumerNotUnique   = 10100
	codeConsumerExists      = 10148
	codeNotReady            = 10163 // a new leader does not know yet what is in flight
	codeTooManyRequests     = 10167
	codeWriteInFlight       = 10164
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
	case codeConsumerNotFound, codeNoMessage, codeStreamNotFound:
		return target == ErrNotFound
	case codeMessageTooLarge:
		return target == ErrTooLarge
	case codeStoreFailed, codeAccountResources, codeInsufficient, codeMemoryExceeded, codeStorageExceeded:
		return target == ErrStreamFull
	}
	return false
}
