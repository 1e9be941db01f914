package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/bus/service"
)

// calls answers with the statements of a database's catalog, as many as fit into a message.
func (a *api) calls(d *Database, q *service.Request) ([]byte, error) {
	var asked contract.CallsRequest
	if err := checkNoBody(q); err != nil {
		var keys map[string]json.RawMessage
		if json.Unmarshal(q.Body, &keys) != nil || len(keys) != 1 || json.Unmarshal(keys["after"], &asked.After) != nil || asked.After == "" {
			return nil, refuse(400, refusal{
				Code: "invalid_body", Database: d.Name, Message: `send an empty body, or {"after": "<name>"} for the statements behind a name`,
			})
		}
	}
	answer := contract.CallsAnswer{Version: contract.Version, Runner: a.cfg.Instance, Database: d.Name, Catalog: d.Policy.Catalog.Hash()}
	return encodeCalls(&answer, d.Policy.Catalog.Calls(), asked.After, a.conn.MaxPayload()-runningReserve)
}

// encodeCalls encodes an answer with the statements behind a name, of which there are as many as limit bytes take, but at least one.
func encodeCalls(answer *contract.CallsAnswer, all []contract.CallInfo, after string, limit int) ([]byte, error) {
	first, found := slices.BinarySearchFunc(all, after, func(c contract.CallInfo, name string) int { return strings.Compare(c.Name, name) })
	if found {
		first++
	}
	last, size := first, 0
	for ; last < len(all); last++ {
		encoded, err := json.Marshal(&all[last])
		if err != nil {
			return nil, fmt.Errorf("encode a statement of the catalog: %w", err)
		}
		if size += len(encoded) + 1; size > limit && last > first {
			break
		}
	}
	answer.Calls, answer.More = append([]contract.CallInfo{}, all[first:last]...), last < len(all) // none are an empty list
	encoded, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode the catalog: %w", err)
	}
	return encoded, nil
}
