package check

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// answer makes a result of request name under a key.
func answer(key, name string, sequence uint64, status, more string) Answer {
	body := fmt.Sprintf(`{"version":1,"job_id":%q,"kind":"transaction","database":"shop","effect":"exactly_once","status":%q,`+
		`"sequence":%d,"deliveries":1,"runner":"r1","started_at":"2026-03-01T12:00:01Z","labels":{"request":%q}%s}`, key, status, sequence, name, more)
	a, err := ReadAnswer("shop", key, start.Add(2*time.Second), []byte(body))
	if err != nil {
		panic(err)
	}
	return a
}

func request(name string, effect Effect, statuses ...string) *Request {
	return &Request{
		Name: name, ID: name, Class: "class", Database: "shop", Kind: "transaction", Effect: effect, Rows: 1, Statuses: statuses, Body: []byte("body " + name),
	}
}

// good is a history in which every promise was kept, with something for each rule to look at.
func good() *History {
	h := &History{
		Requests: map[string]*Request{}, Cancels: map[string]bool{}, Opening: 100,
		Balances: map[string]map[int]int64{"shop": {1: 95, 2: 105}},
		Tables:   map[string][]int{"shop": {1, 2}}, Applied: []Applied{{"shop", 1}, {"shop", 2}},
		Memory: map[string]int64{"r1": 10}, MemoryBound: 100, Connections: map[string]int{"postgres": 0},
		Secrets: []string{"secret"}, Private: []string{"private"}, Drain: time.Second, DrainBound: time.Minute,
		Texts: []Text{{"the log r1.log", []byte("all is well")}},
		Exits: []Exit{{Runner: "r1", Took: time.Second, Grace: 5 * time.Second}},
		Naks:  []Nak{{Database: "shop", Sequence: 1, Deliveries: 1, At: start}},
		Jobs:  []Stream{{Name: "JOBS", Database: "shop", Last: 10}},
	}
	put := func(r *Request, sequence uint64, a *Answer) {
		h.Requests[r.Name] = r
		h.Publications = append(h.Publications, Publication{Request: r.Name, Acked: !r.Refused, Sequence: sequence})
		if a != nil {
			h.Stored = append(h.Stored, *a)
		}
	}
	move := answer("move", "move", 1, Succeeded, `,"attempts":1`)
	put(request("move", ExactlyOnce, Succeeded), 1, &move)
	h.Effects = append(h.Effects, Row{"shop", "move", 1, 2, 5})
	fail := answer("fail", "fail", 2, Failed, `,"error":{"code":"expect_rows_failed"}`)
	failing := request("fail", ExactlyOnce, Failed)
	failing.Codes = []string{"expect_rows_failed"}
	put(failing, 2, &fail)
	h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", Kind: "transaction", JobID: "fail", Reason: "failed", Sequence: 2, Body: []byte("body fail")})

	loose := request("loose", ExactlyOnce, Succeeded)
	loose.ID = ""
	looseAnswer := answer("s3_abc", "loose", 3, Succeeded, "")
	put(loose, 3, &looseAnswer)
	h.Effects = append(h.Effects, Row{"shop", "loose", 0, 0, 0})

	first, second := request("usea", ExactlyOnce, Succeeded), request("useb", ExactlyOnce, Succeeded)
	first.ID, second.ID = "use", "use"
	use := answer("use", "usea", 4, Succeeded, "")
	put(first, 4, &use)
	put(second, 5, nil)
	h.Effects = append(h.Effects, Row{"shop", "usea", 0, 0, 0})
	h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", JobID: "use", Reason: "job_id_reused", Sequence: 5, Body: []byte("body useb")})

	h.Responses = []Response{
		{Request: "usea", Answer: use}, {Request: "usea", Error: "no_result_yet"}, {Request: "useb", Error: "job_id_reused"},
	}

	once := request("once", AtMostOnce, Succeeded)
	onceAnswer := answer("once", "once", 6, Unknown, `,"error":{"code":"outcome_unknown"}`)
	onceAnswer.Result.Effect = AtMostOnce
	put(once, 6, &onceAnswer)
	h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", JobID: "once", Reason: "unknown", Sequence: 6, Body: []byte("body once")})

	sum := request("sum", ReadOnly, Succeeded)
	sum.Sum, sum.Rows = true, 0
	sumAnswer := answer("sum", "sum", 7, Succeeded, `,"rows":[{"sum":"200"}]`)
	sumAnswer.Result.Effect = ReadOnly
	put(sum, 7, &sumAnswer)
	far := request("far", ReadOnly, Succeeded)
	far.Outside, far.Rows = 3, 0
	farAnswer := answer("far", "far", 10, Succeeded, `,"rows_object":{"name":"far.csv","size":20,"row_count":3,"digest":"SHA-256=a"}`)
	farAnswer.Result.Effect = ReadOnly
	put(far, 10, &farAnswer)
	h.Objects = map[string]Object{"far.csv": {Size: 20, Digest: "SHA-256=a", Rows: 3}, "left.csv": {Size: 1, Digest: "SHA-256=b"}}
	often := request("often", AtLeastOnce, Succeeded)
	oftenAnswer := answer("often", "often", 8, Succeeded, "")
	oftenAnswer.Result.Effect = AtLeastOnce
	put(often, 8, &oftenAnswer)
	h.Effects = append(h.Effects, Row{"shop", "often", 0, 0, 0}, Row{"shop", "often", 0, 0, 0})
	up := request("up", "", Succeeded)
	up.Target, up.Rows = 2, 0
	upAnswer := answer("up", "up", 9, Succeeded, "")
	upAnswer.Result.Effect = AtLeastOnce
	put(up, 9, &upAnswer)
	wish := request("wish", "", Succeeded)
	wish.Refused = true
	put(wish, 0, nil)

	for _, a := range []Answer{move, fail, looseAnswer, use, onceAnswer} {
		h.Ledger = append(h.Ledger, LedgerRow{Database: "shop", JobID: a.Key, Status: a.Result.Status, Sequence: a.Result.Sequence, Answer: a.Body})
	}
	h.Seen = []Answer{move, use}
	again := answer("move", "move", 1, Succeeded, `,"attempts":1,"duplicate":true`)
	again.Key = "dbrunner.replies.shop.move"
	h.Replies = []Answer{again}
	h.Results = []Stream{{Name: "RESULTS", Database: "shop", Messages: uint64(len(h.Stored)), Last: uint64(len(h.Stored))}}
	return h
}

func TestNothingToReport(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check(good()))
}

// stored finds a stored result to be spoilt.
func stored(h *History, key string) *Answer {
	return &h.Stored[slices.IndexFunc(h.Stored, func(a Answer) bool { return a.Key == key })]
}

func without(h *History, key string) {
	h.Stored = slices.DeleteFunc(h.Stored, func(a Answer) bool { return a.Key == key })
}

// Each promise, broken in each of its ways: the rule has to say so. Other rules may see it too.
func TestBrokenPromisesAreReported(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule  string
		spoil func(h *History)
	}{
		"a result is lost":                   {"one_result", func(h *History) { without(h, "move") }},
		"the result of a loose job is lost":  {"one_result", func(h *History) { without(h, "s3_abc") }},
		"a result without a request":         {"known_result", func(h *History) { h.Stored = append(h.Stored, answer("who", "who", 90, Succeeded, "")) }},
		"a result of another request":        {"known_result", func(h *History) { *stored(h, "move") = answer("move", "sum", 1, Succeeded, "") }},
		"a result of another job":            {"known_result", func(h *History) { stored(h, "move").Result.JobID = "fail" }},
		"a result stored over another":       {"stored_once", func(h *History) { h.Results[0].Last++ }},
		"a result seen twice":                {"seen_as_stored", func(h *History) { h.Seen = append(h.Seen, h.Seen[0]) }},
		"a result seen that is not stored":   {"seen_as_stored", func(h *History) { h.Seen[0].Body = []byte(`{}`) }},
		"an effect twice":                    {"effects", func(h *History) { h.Effects = append(h.Effects, Row{"shop", "move", 1, 2, 0}) }},
		"more rows than the limit":           {"limits", func(h *History) { h.Requests["often"].Limit = 1 }},
		"an effect that is missing":          {"effects", func(h *History) { h.Effects = h.Effects[1:] }},
		"an effect of a failure":             {"effects", func(h *History) { h.Effects = append(h.Effects, Row{"shop", "fail", 0, 0, 0}) }},
		"an effect of the later request":     {"effects", func(h *History) { h.Effects = append(h.Effects, Row{"shop", "useb", 0, 0, 0}) }},
		"an effect without a request":        {"effects", func(h *History) { h.Effects = append(h.Effects, Row{"shop", "who", 0, 0, 0}) }},
		"an exactly_once job of unknown end": {"effects", func(h *History) { *stored(h, "move") = answer("move", "move", 1, Unknown, "") }},
		"at_most_once twice": {"effects", func(h *History) {
			h.Effects = append(h.Effects, Row{"shop", "once", 0, 0, 0}, Row{"shop", "once", 0, 0, 0})
		}},
		"at_least_once never": {"effects", func(h *History) {
			h.Effects = slices.DeleteFunc(h.Effects, func(r Row) bool { return r.Request == "often" })
		}},
		"half a transfer":                   {"balances", func(h *History) { h.Balances["shop"][1] = 100 }},
		"money that comes from nowhere":     {"balances", func(h *History) { h.Balances["shop"][2]++ }},
		"a sum in the middle of a transfer": {"sum_read", func(h *History) { *stored(h, "sum") = answer("sum", "sum", 7, Succeeded, `,"rows":[{"sum":"195"}]`) }},
		"rows that are not there":           {"rows_object", func(h *History) { delete(h.Objects, "far.csv") }},
		"rows that cannot be read":          {"rows_object", func(h *History) { h.Objects["far.csv"] = Object{Problem: "digest"} }},
		"rows that were cut short":          {"rows_object", func(h *History) { h.Objects["far.csv"] = Object{Size: 20, Digest: "SHA-256=a", Rows: 2} }},
		"rows of another execution":         {"rows_object", func(h *History) { h.Objects["far.csv"] = Object{Size: 20, Digest: "SHA-256=b", Rows: 3} }},
		"rows that a result does not name":  {"rows_object", func(h *History) { stored(h, "far").Result.Outside = nil }},
		"rows of two results": {"rows_object", func(h *History) {
			second := answer("far_r1", "far", 20, Succeeded, `,"rows_object":{"name":"far.csv","size":20,"row_count":3,"digest":"SHA-256=a"}`)
			h.Stored = append(h.Stored, second)
		}},
		"a valid job rejected":                 {"ends", func(h *History) { stored(h, "move").Result.Status = Rejected }},
		"cancelled without a request":          {"ends", func(h *History) { stored(h, "move").Result.Status = Canceled }},
		"failed for no known reason":           {"ends", func(h *History) { stored(h, "fail").Result.Error.Code = "internal_error" }},
		"a read of unknown end":                {"ends", func(h *History) { stored(h, "sum").Result.Status = Unknown }},
		"a reused id without a dead letter":    {"id_reuse", func(h *History) { h.DeadLetters = slices.Delete(h.DeadLetters, 1, 2) }},
		"a ledger row started and left":        {"ledger", func(h *History) { h.Ledger[4].Status = "started" }},
		"a ledger row without a result":        {"ledger", func(h *History) { without(h, "fail") }},
		"a ledger row that says another end":   {"ledger", func(h *History) { h.Ledger[0].Status = Failed }},
		"a ledger row with another answer":     {"ledger", func(h *History) { h.Ledger[0].Answer = []byte(`{"a":1}`) }},
		"a success that the ledger lacks":      {"ledger", func(h *History) { h.Ledger = h.Ledger[1:] }},
		"a failure that the ledger lacks":      {"ledger", func(h *History) { h.Ledger = slices.Delete(h.Ledger, 1, 2) }},
		"a reply that says something else":     {"reply", func(h *History) { h.Replies[0].Body = []byte(`{"a":1}`) }},
		"a reply without a result":             {"reply", func(h *History) { without(h, "move") }},
		"a reply before its result":            {"reply", func(h *History) { h.Replies[0].At = start }},
		"a reply without a request":            {"reply", func(h *History) { h.Replies[0].Key = "dbrunner.replies.shop.unknown" }},
		"a reply to another requester":         {"reply", func(h *History) { h.Replies[0].Key = "dbrunner.replies.shop.fail" }},
		"a response of another request":        {"response", func(h *History) { h.Responses[2].Error, h.Responses[2].Answer = "", h.Responses[0].Answer }},
		"a response unlike what is stored":     {"response", func(h *History) { h.Responses[0].Answer.Body = []byte(`{"a":1}`) }},
		"a response that is stored nowhere":    {"response", func(h *History) { without(h, "use") }},
		"a repetition that is refused":         {"response", func(h *History) { h.Responses[0] = Response{Request: "move", Error: "job_id_reused"} }},
		"a secret in a response":               {"secrets", func(h *History) { h.Responses[1].Answer.Body = []byte("secret") }},
		"a failure without a dead letter":      {"dead_letters", func(h *History) { h.DeadLetters = h.DeadLetters[1:] }},
		"an unknown end without a dead letter": {"dead_letters", func(h *History) { h.DeadLetters = h.DeadLetters[:2] }},
		"a dead letter of a success": {"dead_letters", func(h *History) {
			h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", JobID: "move", Sequence: 1})
		}},
		"a dead letter with another body": {"dead_letters", func(h *History) { h.DeadLetters[0].Body = []byte("x") }},
		"an unknown kind that was taken":  {"refused", func(h *History) { h.Publications[len(h.Publications)-1].Acked = true }},
		"a migration left out":            {"migrations", func(h *History) { h.Applied[0].Version = 3 }},
		"a migration twice":               {"migrations", func(h *History) { h.Applied = append(h.Applied, Applied{"shop", 2}) }},
		"a migration without a record":    {"migrations", func(h *History) { h.Tables["shop"] = []int{1, 2, 3} }},
		"a migration that is not there":   {"migrations", func(h *History) { h.Tables["shop"] = []int{1} }},
		"a migration short of its target": {"migrations", func(h *History) { h.Requests["up"].Target = 3 }},
		"requeued while another is at work": {"requeued", func(h *History) {
			stored(h, "move").Result.Deliveries = 2
			h.Naks[0].At = start.Add(5 * time.Second)
		}},
		"requeued while another is at work, and a consumer of another database deleted": {"requeued", func(h *History) {
			stored(h, "move").Result.Deliveries = 2
			h.Naks[0].At = start.Add(5 * time.Second)
			deleted := start.Add(4 * time.Second)
			h.Faults = append(h.Faults, Fault{Name: ConsumerDeleted, Note: "CONSUMER.DELETE.F1_JOBS_edge.work", From: deleted, Until: deleted})
		}},
		"an exit that takes too long": {"exits", func(h *History) { h.Exits[0].Took = time.Minute }},
		"an exit with a complaint":    {"exits", func(h *History) { h.Exits[0].Code = 1 }},
		"too much memory":             {"memory", func(h *History) { h.Memory["r1"] = 1000 }},
		"a connection left open":      {"connections", func(h *History) { h.Connections["postgres"] = 1 }},
		"a secret in a log":           {"secrets", func(h *History) { h.Texts[0].Body = []byte("the secret is out") }},
		"a value in a log":            {"secrets", func(h *History) { h.Texts[0].Body = []byte("a private value") }},
		"a value in a result": {"secrets", func(h *History) {
			*stored(h, "fail") = answer("fail", "fail", 2, Failed, `,"error":{"code":"expect_rows_failed","message":"private"}`)
		}},
		"a value in the header of a dead letter": {"secrets", func(h *History) { h.DeadLetters[0].Headers = map[string][]string{"Dbrunner-Message": {"private"}} }},
		"a secret in a dead letter":              {"secrets", func(h *History) { h.DeadLetters[0].Body = []byte("secret") }},
		"a job that is left":                     {"drained", func(h *History) { h.Jobs[0].Messages = 1 }},
		"a queue that drains too slowly":         {"drained", func(h *History) { h.Drain = time.Hour }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := good()
			c.spoil(h)
			var reported []string
			for _, v := range Check(h) {
				require.NotEmpty(t, v.Text)
				reported = append(reported, v.Rule)
			}
			require.Contains(t, reported, c.rule)
		})
	}
}

func TestWhatIsAllowedIsNotReported(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(h *History){
		"an acknowledgement was lost": func(h *History) { h.Publications[0].Acked = false },
		"nothing came of a lost publish": func(h *History) {
			h.Requests["lost"] = request("lost", ExactlyOnce, Succeeded)
			h.Publications = append(h.Publications, Publication{Request: "lost"})
		},
		"a value in the body of a dead letter": func(h *History) {
			h.DeadLetters[0].Body, h.Requests["fail"].Body = []byte("private"), []byte("private")
		},
		"a result published again by servers that crashed": func(h *History) {
			h.Seen, h.Replayed = append(h.Seen, h.Seen[0]), true
		},
		"a reply without labels": func(h *History) { h.Replies[0].Result.Labels = nil },
		"a fault's failure":      func(h *History) { stored(h, "fail").Result.Error.Code = "connection_lost" },
		"requeued before another started": func(h *History) {
			stored(h, "move").Result.Deliveries = 2
		},
		"requeued by a consumer created after another had started": func(h *History) {
			stored(h, "move").Result.Deliveries = 2
			h.Naks[0].At = start.Add(5 * time.Second)
			deleted := start.Add(4 * time.Second)
			h.Faults = append(h.Faults, Fault{Name: ConsumerDeleted, Note: "CONSUMER.DELETE.F1_JOBS_shop.work", From: deleted, Until: deleted})
		},
		"at_most_once of unknown end took effect": func(h *History) { h.Effects = append(h.Effects, Row{"shop", "once", 0, 0, 0}) },
		"the first use of an id was delivered too often": func(h *History) {
			use := answer("use", "", 4, Failed, `,"error":{"code":"too_many_deliveries"}`)
			use.Result.Labels = nil
			*stored(h, "use") = use
			i := slices.IndexFunc(h.Ledger, func(row LedgerRow) bool { return row.JobID == "use" })
			h.Ledger[i] = LedgerRow{Database: "shop", JobID: "use", Status: Failed, Sequence: 4, Answer: use.Body}
			h.Effects = slices.DeleteFunc(h.Effects, func(row Row) bool { return row.Request == "usea" })
			h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", JobID: "use", Reason: "too_many_deliveries", Sequence: 4, Body: []byte("body usea")})
			h.Responses = nil
			h.Seen = slices.Clone(h.Stored)
		},
		"a redriven dead letter is gone": func(h *History) {
			h.DeadLetters = h.DeadLetters[1:]
			h.Publications = append(h.Publications, Publication{Request: "fail", ID: "fail_r1", Acked: true, Sequence: 20})
			h.Stored = append(h.Stored, answer("fail_r1", "fail", 20, Succeeded, ""))
			h.Requests["fail"].Statuses = []string{Succeeded, Failed}
			h.Effects = append(h.Effects, Row{"shop", "fail", 0, 0, 0})
			a := stored(h, "fail_r1")
			h.Ledger = append(h.Ledger, LedgerRow{Database: "shop", JobID: "fail_r1", Status: Succeeded, Sequence: 20, Answer: a.Body})
			h.Results[0].Last++
			h.Results[0].Messages++
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := good()
			change(h)
			require.Empty(t, Check(h))
		})
	}
}
