package main

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/test/faults/check"
)

// watcher notes what plain subscribers see while the run goes on. What it misses while its server is away is missing.
type watcher struct {
	namespace string
	streams   map[string]string // the database of each stream of jobs

	mu      sync.Mutex
	seen    []check.Answer
	replies []check.Answer
	naks    []check.Nak
	texts   []check.Text
	odd     []string // what could not be read
}

func (r *round) watch() (*watcher, error) {
	w := &watcher{namespace: r.namespace, streams: map[string]string{}}
	notes := map[string]func(*nats.Msg){
		r.namespace + ".results.*.*": w.result,
		r.namespace + ".replies.*.*": w.reply,
		r.namespace + ".health.>":    w.heartbeat,
	}
	for _, database := range r.databases {
		w.streams[r.stream("JOBS", database)] = database
		notes["$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED."+r.stream("JOBS", database)+".*"] = w.nak
	}
	for subject, note := range notes {
		sub, err := r.nc.Subscribe(subject, note)
		if err != nil {
			return nil, err
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return nil, err
		}
	}
	return w, r.nc.FlushTimeout(10 * time.Second)
}

func (w *watcher) note(into *[]check.Answer, database, key string, body []byte) {
	a, err := check.ReadAnswer(database, key, time.Now(), body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.odd = append(w.odd, key+": "+err.Error())
		return
	}
	*into = append(*into, a)
}

func (w *watcher) result(m *nats.Msg) {
	parts := strings.Split(m.Subject, ".")
	w.note(&w.seen, parts[2], parts[3], m.Data)
}

func (w *watcher) reply(m *nats.Msg) {
	parts := strings.Split(m.Subject, ".")
	w.note(&w.replies, parts[2], m.Subject, m.Data)
}

func (w *watcher) heartbeat(m *nats.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, check.Text{Where: "a heartbeat on " + m.Subject, Body: m.Data})
}

func (w *watcher) nak(m *nats.Msg) {
	var n struct {
		Stream     string    `json:"stream"`
		Sequence   uint64    `json:"stream_seq"`
		Deliveries uint64    `json:"deliveries"`
		At         time.Time `json:"timestamp"`
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := json.Unmarshal(m.Data, &n); err != nil {
		w.odd = append(w.odd, err.Error())
		return
	}
	w.naks = append(w.naks, check.Nak{Database: w.streams[n.Stream], Sequence: n.Sequence, Deliveries: n.Deliveries, At: n.At})
}
