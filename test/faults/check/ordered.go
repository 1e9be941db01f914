package check

import (
	"slices"
	"time"
)

// Commit is what a job of an ordered queue has left in the database when it took effect, by the database's clock.
type Commit struct {
	Queue     string    `json:"queue"` // database and name, with a dot between
	Request   string    `json:"request"`
	Place     int       `json:"place"`     // one more than the jobs of the queue that were committed when its statements ran
	Started   time.Time `json:"started"`   // when they ran; zero: the clock was wrong
	Committed time.Time `json:"committed"` // as the server noted it at COMMIT; where it notes none, those of a queue are listed in their order
}

// Resume is a record with which an operator releases a message of an ordered queue.
type Resume struct {
	Queue    string    `json:"queue"`
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"` // when it was about to be written
}

// ordered: the order of the COMMITs of an ordered queue is that of its stream, one job at a time, each outcome is in the ledger, and
// behind a job that failed nothing starts until an operator has released its message.
func ordered(ix *index, report func(string, string, ...any)) {
	for _, queue := range ix.Ordered {
		commitsInOrder(ix, queue, report)
		answers := answersOf(ix, queue)
		for i, a := range answers {
			if !ix.inLedger[jobKey{a.Database, a.Key}] {
				report(a.Result.Request(), "%s of the ordered queue %s ended %s, and the ledger does not know it", a.Key, queue, a.Result.Status)
			}
			if i > 0 && !ix.Skewed && startOf(a).Before(answers[i-1].Result.FinishedAt) {
				report(a.Result.Request(), "%s of the ordered queue %s started before %s had finished", a.Key, queue, answers[i-1].Key)
			}
		}
		failuresStay(ix, queue, answers, report)
	}
}

// commitsInOrder compares the order of the COMMITs with that of the messages.
func commitsInOrder(ix *index, queue string, report func(string, string, ...any)) {
	commits := slices.DeleteFunc(slices.Clone(ix.Commits), func(c Commit) bool { return c.Queue != queue })
	slices.SortStableFunc(commits, func(a, b Commit) int { return a.Committed.Compare(b.Committed) })
	var last uint64
	for i, c := range commits {
		sequence := ix.sequenceOf(c.Request)
		switch {
		case sequence <= last:
			report(c.Request, "%s of the ordered queue %s, sequence %d, was committed after sequence %d", c.Request, queue, sequence, last)
		case c.Place != i+1:
			report(c.Request, "%s is number %d of the COMMITs of the ordered queue %s, and saw %d before it", c.Request, i+1, queue, c.Place-1)
		case i > 0 && c.Started.Before(commits[i-1].Committed):
			report(c.Request, "%s of the ordered queue %s was executed before %s was committed", c.Request, queue, commits[i-1].Request)
		}
		last = max(last, sequence)
	}
}

// sequenceOf is the message with which a request took effect; 0: no result shows it.
func (ix *index) sequenceOf(request string) uint64 {
	if r := ix.Requests[request]; r != nil {
		if a := ix.stored[jobKey{r.Database, r.ID}]; a != nil {
			return a.Result.Sequence
		}
	}
	return 0
}

// answersOf are the results of a queue's jobs in the order of their messages.
func answersOf(ix *index, queue string) (list []*Answer) {
	for i := range ix.Stored {
		g := ix.groupOf(&ix.Stored[i])
		if g != nil && queueOf(g.requests[0]) == queue && g.key.id == g.requests[0].ID { // what was published again was not published to the queue
			list = append(list, &ix.Stored[i])
		}
	}
	slices.SortFunc(list, func(a, b *Answer) int { return int(a.Result.Sequence) - int(b.Result.Sequence) })
	return list
}

func queueOf(r *Request) string { return r.Database + "." + r.Queue }

// startOf is when a job started, or finished without a start.
func startOf(a *Answer) time.Time {
	if a.Result.StartedAt.IsZero() {
		return a.Result.FinishedAt
	}
	return a.Result.StartedAt
}

// failuresStay: the message of a job that failed, and each copy of it, stays until an operator releases it, and what comes behind
// it waits as long.
func failuresStay(ix *index, queue string, answers []*Answer, report func(string, string, ...any)) {
	released := map[uint64]time.Time{}
	for _, r := range ix.Resumes {
		if at, ok := released[r.Sequence]; r.Queue == queue && (!ok || r.At.Before(at)) {
			released[r.Sequence] = r.At
		}
	}
	for sequence, name := range failuresOf(ix, queue, answers) {
		at, ok := released[sequence]
		if !ok {
			report(name, "sequence %d of the ordered queue %s failed, and no operator has released it", sequence, queue)
			continue
		}
		for _, a := range answers {
			if a.Result.Sequence > sequence && !ix.Skewed && startOf(a).Before(at) {
				report(a.Result.Request(), "%s of the ordered queue %s started before sequence %d, which had failed, was released", a.Key, queue, sequence)
			}
		}
		for _, c := range ix.Commits {
			if c.Queue == queue && ix.sequenceOf(c.Request) > sequence && !c.Started.IsZero() && c.Started.Before(at) {
				report(c.Request, "%s of the ordered queue %s was executed before sequence %d, which had failed, was released", c.Request, queue, sequence)
			}
		}
	}
}

// failuresOf are the messages of failed jobs, with their requests.
func failuresOf(ix *index, queue string, answers []*Answer) map[uint64]string {
	failed, messages := map[jobKey]bool{}, map[uint64]string{}
	for _, a := range answers {
		if a.Result.Status != Succeeded && a.Result.Status != Canceled {
			failed[jobKey{a.Database, a.Key}] = true
			messages[a.Result.Sequence] = a.Result.Request()
		}
	}
	for i := range ix.Publications {
		p := &ix.Publications[i]
		if r := ix.Requests[p.Request]; p.Acked && !p.Duplicate && p.ID == "" && queueOf(r) == queue && failed[jobKey{r.Database, r.ID}] {
			messages[p.Sequence] = r.Name
		}
	}
	return messages
}
