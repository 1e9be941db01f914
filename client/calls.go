package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"dbrunner/contract"
)

// Call is a call of a named statement of a database's catalog.
type Call struct {
	Database string
	Name     string         // of the statement
	ID       string         // of the job: the same call under the same id has one effect; empty: the runner derives one
	Params   map[string]any // values by parameter; json.Number and texts keep all digits
	Options  map[string]any // further keys of the body, such as "timeout" or "labels"
}

// kindCall is the kind of calls.
const kindCall = "call"

// Job returns the job for Submit and Run.
func (c *Call) Job() (*Job, error) {
	if err := errors.Join(checkName("database", c.Database), checkName("name", c.Name)); err != nil {
		return nil, err
	}
	body := maps.Clone(c.Options)
	if body == nil {
		body = map[string]any{}
	}
	if len(c.Params) > 0 {
		body["params"] = c.Params
	}
	return jobOf(c.Database, kindCall, c.Name, c.ID, body)
}

// Catalog is the named statements of a database.
type Catalog struct {
	Hash  string              `json:"catalog,omitempty"` // the same for equal catalogs; empty: the database has none
	Calls []contract.CallInfo `json:"calls"`             // by name
}

// ErrCatalogChanged is returned if runners with different catalogs answered.
var ErrCatalogChanged = errors.New("the runners have different catalogs; ask again once all have the same")

// ReadCatalog asks a runner for the named statements of a database. The error is ErrNoService, a *ServiceError such as an unknown
// database, ErrCatalogChanged, or the connection's.
func ReadCatalog(ctx context.Context, c *Client, database string) (*Catalog, error) {
	if err := checkName("database", database); err != nil {
		return nil, err
	}
	out := &Catalog{Calls: []contract.CallInfo{}}
	for first := true; ; first = false {
		var request []byte
		if !first {
			var err error
			if request, err = json.Marshal(contract.CallsRequest{After: out.Calls[len(out.Calls)-1].Name}); err != nil {
				return nil, fmt.Errorf("ask for the catalog: %w", err)
			}
		}
		body, err := c.Ask(ctx, "calls."+database, nil, request)
		if err != nil {
			return nil, err
		}
		var part contract.CallsAnswer
		if err := json.Unmarshal(body, &part); err != nil {
			return nil, fmt.Errorf("read the catalog: %w", err)
		}
		if !first && part.Catalog != out.Hash {
			return nil, ErrCatalogChanged
		}
		out.Hash, out.Calls = part.Catalog, append(out.Calls, part.Calls...)
		if !part.More || len(part.Calls) == 0 {
			return out, nil
		}
	}
}
