package contract

import "encoding/json"

// CallsRequest is a request for the statements of a database's catalog. An empty body asks for the first ones.
type CallsRequest struct {
	After string `json:"after,omitempty"` // those behind this name
}

// CallsAnswer lists statements of a database's catalog by name, as many as fit into a message.
type CallsAnswer struct {
	Version  int        `json:"version"`
	Runner   string     `json:"runner"`
	Database string     `json:"database"`
	Catalog  string     `json:"catalog,omitempty"` // hash: the same for equal catalogs; missing: the runner has none
	Calls    []CallInfo `json:"calls"`
	More     bool       `json:"more,omitempty"` // others follow behind the last name
}

// CallInfo is a statement of a catalog.
type CallInfo struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Revision    string          `json:"revision"` // changes with the definition
	Effect      Effect          `json:"effect"`
	Schema      json.RawMessage `json:"schema"` // JSON Schema 2020-12 of the object params of a call

	MaxRows     int64  `json:"max_rows,omitempty"`     // ceilings of the statement; missing: those of the database alone
	MaxAffected int64  `json:"max_affected,omitempty"` // rows that it may write
	Timeout     string `json:"timeout,omitempty"`
}
