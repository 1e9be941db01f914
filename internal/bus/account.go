package bus

import (
	"context"
	"strconv"
)

// Account is what JetStream grants and has given to the account: in all, or for each number of replicas of a stream.
type Account struct {
	AccountTier
	Tiers map[string]AccountTier `json:"tiers"` // by "R1", "R3"; with them the limits are theirs alone
}

// AccountTier is one set of limits and what of it is taken.
type AccountTier struct {
	Streams  int           `json:"streams"`
	Bytes    int64         `json:"storage"`          // of files
	Reserved int64         `json:"reserved_storage"` // the largest sizes of all streams, one copy of each
	Limits   AccountLimits `json:"limits"`

	Named bool // it is of a number of replicas, and counts one copy of each stream
}

// AccountLimits are limits of an account that can keep a stream or consumer of ours from being created.
type AccountLimits struct {
	MaxStreams     int   `json:"max_streams"`              // none: 0 and less
	MaxConsumers   int   `json:"max_consumers"`            // of each stream; none: 0 and less
	MaxBytes       int64 `json:"max_storage"`              // none: less than 0
	MaxStreamBytes int64 `json:"storage_max_stream_bytes"` // of one stream; none: 0 and less
}

// ReadAccount asks for the limits. A runner needs no right to do so.
func ReadAccount(ctx context.Context, c *Conn) (*Account, error) {
	var account Account
	if err := c.API(ctx, "INFO", nil, &account); err != nil {
		return nil, err
	}
	return &account, nil
}

// Tier is what is granted to streams with this many replicas.
func (a *Account) Tier(replicas int) AccountTier {
	switch {
	case a == nil:
		return AccountTier{Limits: AccountLimits{MaxBytes: -1}}
	case len(a.Tiers) == 0:
		return a.AccountTier
	}
	tier := a.Tiers["R"+strconv.Itoa(max(replicas, 1))] // none there: the server says so when it is asked for a stream
	tier.Named = true
	return tier
}

// AccountRight is the right that Account needs.
func AccountRight(opts Options) Permission {
	return Permission{Subject: APIPrefix(opts.Domain) + "INFO"}
}
