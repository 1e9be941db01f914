package check

import (
	"encoding/json"
	"strconv"
	"strings"
)

// jobKey names a job.
type jobKey struct {
	database string
	id       string
}

// messageKey names a message.
type messageKey struct {
	database string
	sequence uint64
}

// group is all that was published under one id.
type group struct {
	key          jobKey
	requests     []*Request
	publications []*Publication
	acked        bool
	sequences    []uint64
	result       *Answer
}

// index is a history with ways into it.
type index struct {
	*History
	groups      map[jobKey]*group
	bySeq       map[messageKey]*group // of jobs without an id of their own
	loose       map[string]*group     // the same, by request
	stored      map[jobKey]*Answer
	deadLetters map[messageKey]*DeadLetter
	published   map[messageKey]*Publication
	rows        map[string]int            // of effects, by request
	reported    map[string]map[string]int // results by request and status
	inLedger    map[jobKey]bool
	redriven    map[jobKey]bool // jobs whose dead letter was published again, and so removed
}

func newIndex(h *History) *index {
	ix := &index{
		History: h, groups: map[jobKey]*group{}, bySeq: map[messageKey]*group{}, loose: map[string]*group{},
		stored: map[jobKey]*Answer{}, deadLetters: map[messageKey]*DeadLetter{}, published: map[messageKey]*Publication{},
		rows: map[string]int{}, reported: map[string]map[string]int{}, inLedger: map[jobKey]bool{}, redriven: map[jobKey]bool{},
	}
	for i := range h.Publications {
		ix.publication(&h.Publications[i])
	}
	for i := range h.Stored {
		ix.answer(&h.Stored[i])
	}
	for i := range h.DeadLetters {
		l := &h.DeadLetters[i]
		ix.deadLetters[messageKey{l.Database, l.Sequence}] = l
	}
	for i := range h.Effects {
		ix.rows[h.Effects[i].Request]++
	}
	for i := range h.Ledger {
		ix.inLedger[jobKey{h.Ledger[i].Database, h.Ledger[i].JobID}] = true
	}
	return ix
}

// publication puts a message to the others of its job. One without an id is a job of its own.
func (ix *index) publication(p *Publication) {
	r := ix.Requests[p.Request]
	if r.Refused {
		return
	}
	id := r.ID
	if p.ID != "" {
		id = p.ID
		if i := strings.LastIndex(id, "_r"); i > 0 && p.Acked {
			ix.redriven[jobKey{r.Database, previous(id)}] = true
		}
	}
	key := jobKey{r.Database, id}
	if id == "" {
		key.id = "(derived) " + r.Name
	}
	g := ix.groups[key]
	if g == nil {
		g = &group{key: key}
		ix.groups[key] = g
	}
	if !g.has(r.Name) {
		g.requests = append(g.requests, r)
	}
	g.publications = append(g.publications, p)
	if id == "" {
		ix.loose[r.Name] = g
	}
	if !p.Acked {
		return
	}
	g.acked = true
	g.sequences = append(g.sequences, p.Sequence)
	if !p.Duplicate {
		ix.published[messageKey{r.Database, p.Sequence}] = p
	}
	if id == "" {
		ix.bySeq[messageKey{r.Database, p.Sequence}] = g
	}
}

// previous is the id of the job whose dead letter was published again as id: <id>_r1 comes of <id>, <id>_r2 of <id>_r1.
func previous(id string) string {
	i := strings.LastIndex(id, "_r")
	n, err := strconv.Atoi(id[i+2:])
	if err != nil || n < 2 {
		return id[:i]
	}
	return id[:i+2] + strconv.Itoa(n-1)
}

func (ix *index) answer(a *Answer) {
	ix.stored[jobKey{a.Database, a.Key}] = a
	g := ix.groupOf(a)
	if g == nil {
		return
	}
	g.result = a
	name := a.Result.Request()
	if name == "" && len(g.requests) == 1 {
		name = g.requests[0].Name
	}
	if ix.reported[name] == nil {
		ix.reported[name] = map[string]int{}
	}
	ix.reported[name][a.Result.Status]++
}

// groupOf finds the job that a stored result belongs to.
func (ix *index) groupOf(a *Answer) *group {
	if g := ix.groups[jobKey{a.Database, a.Key}]; g != nil {
		return g
	}
	if g := ix.bySeq[messageKey{a.Database, a.Result.Sequence}]; g != nil {
		return g
	}
	return ix.loose[a.Result.Request()] // its acknowledgement was lost
}

// requestOf finds the request of a ledger's row by the labels in its answer.
func (ix *index) requestOf(row *LedgerRow) string {
	var r Result
	if json.Unmarshal(row.Answer, &r) != nil {
		return ""
	}
	return r.Request()
}

func (g *group) has(request string) bool {
	for _, r := range g.requests {
		if r.Name == request {
			return true
		}
	}
	return false
}

func (g *group) replyOnly() bool {
	for _, r := range g.requests {
		if !r.ReplyOnly {
			return false
		}
	}
	return true
}
