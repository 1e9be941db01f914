package intake

import (
	"strconv"
	"strings"
	"time"
)

// ackPrefix starts the reply subject of every message that a consumer delivers, and of nothing else that reaches
// an inbox: status messages of the server have no reply.
const ackPrefix = "$JS.ACK."

// ackInfo is the content of the reply subject of a delivered message.
type ackInfo struct {
	deliveries  uint64
	sequence    uint64 // in the stream
	consumerSeq uint64 // of this delivery
	timestamp   time.Time
}

// parseAck reads both shapes of the subject:
//
//	$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>
//	$JS.ACK.<domain>.<account hash>.<stream>.<consumer>.<the same five>[.<more>]
func parseAck(reply string) (ackInfo, bool) {
	rest, ok := strings.CutPrefix(reply, ackPrefix)
	if !ok {
		return ackInfo{}, false
	}
	skip := 2 // stream and consumer
	switch tokens := strings.Count(rest, ".") + 1; {
	case tokens == 7:
	case tokens >= 9:
		skip = 4
	default:
		return ackInfo{}, false
	}
	for range skip {
		_, rest, _ = strings.Cut(rest, ".")
	}
	var numbers [4]uint64
	for i := range numbers {
		var digits string
		digits, rest, _ = strings.Cut(rest, ".")
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return ackInfo{}, false
		}
		numbers[i] = n
	}
	return ackInfo{
		deliveries: numbers[0], sequence: numbers[1], consumerSeq: numbers[2],
		timestamp: time.Unix(0, int64(numbers[3])).UTC(), //nolint:gosec // nanoseconds of the server's clock
	}, true
}
