package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	deadKept   = 20_000  // dead letters that the page knows, the newest
	deadChunk  = 2000    // sequences of one reading, at most
	deadLeast  = 32      // of the first one: it is not known yet how large they are
	deadBytes  = 8 << 20 // of one reading, about
	deadEvery  = 2 * time.Second
	deadFirst  = time.Second // after this time a look shows what it has read, and the next one goes on
	shownError = 500         // characters of a message that the page keeps
)

// DeadLetter is what the page keeps of a dead letter: nothing of the job's body.
type DeadLetter struct {
	Sequence uint64
	Stored   time.Time
	Database string
	Kind     string
	Key      string
	JobID    string
	Reason   string
	Code     string
	Message  string
	ResultID string
	Runner   string
	Redrive  string // the id of the job that this one was redriven from
}

// Name is the name of the dead letter in commands.
func (d *DeadLetter) Name() string { return d.Database + "." + d.Kind + "." + d.Key }

// DeadLetters are the newest dead letters, read while pages are open: all that fit once, then what is new or was removed.
type DeadLetters struct {
	Source *Source

	mu       sync.Mutex
	list     []DeadLetter // by sequence
	total    uint64       // in the stream
	next     uint64       // the first sequence that was not read
	from     uint64       // the first sequence that was read
	created  time.Time
	compared [3]uint64 // of the stream, when the list was compared with it: first sequence, messages, deleted ones
	asOf     time.Time
	version  uint64
}

// DeadView is a copy of what is known.
type DeadView struct {
	List    []DeadLetter // oldest first
	Total   uint64       // in the stream
	Partial bool         // the stream has older ones than the list
	Version uint64
}

// Get returns the dead letters that choose accepts, oldest first.
func (d *DeadLetters) Get(ctx context.Context, choose func(*DeadLetter) bool) (*DeadView, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asOf.IsZero() || d.Source.Now().Sub(d.asOf) >= deadEvery {
		if err := d.read(ctx); err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
		}
	}
	view := &DeadView{Total: d.total, Partial: d.total > uint64(len(d.list)), Version: d.version}
	for i := range d.list {
		if choose == nil || choose(&d.list[i]) {
			view.List = append(view.List, d.list[i])
		}
	}
	return view, nil
}

// Forget lets the next look read again: something was removed.
func (d *DeadLetters) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asOf = time.Time{}
}

func (d *DeadLetters) read(ctx context.Context) error {
	stream := d.Source.Subjects.DeadStream()
	info, err := d.Source.Info(ctx, stream, struct{}{})
	if err != nil {
		return err
	}
	state := &info.State
	if !info.Created.Equal(d.created) || state.LastSeq+1 < d.next || state.LastSeq >= d.next+deadKept {
		d.list, d.next, d.from, d.created, d.compared = nil, state.LastSeq+1, state.LastSeq+1, info.Created, [3]uint64{}
	}
	if err := d.backwards(ctx, state.FirstSeq); err != nil {
		return err
	}
	if err := d.forwards(ctx, state.LastSeq); err != nil {
		return err
	}
	if now := [3]uint64{state.FirstSeq, state.Messages, state.NumDeleted}; now != d.compared {
		if err := d.dropRemoved(ctx, stream); err != nil {
			return err
		}
		d.compared = now
	}
	if over := len(d.list) - deadKept; over > 0 {
		d.list = slices.Clone(d.list[over:])
		d.from = d.list[0].Sequence
	}
	d.total, d.asOf = state.Messages, d.Source.Now()
	return nil
}

// backwards reads what the stream had when the page was opened, the newest first, until there are enough.
func (d *DeadLetters) backwards(ctx context.Context, first uint64) error {
	size := uint64(deadLeast)
	for end := time.Now().Add(deadFirst); len(d.list) < deadKept && d.from > max(first, 1) && (len(d.list) == 0 || time.Now().Before(end)); {
		to := d.from - 1
		from := max(first, 1)
		if to > size {
			from = max(from, to-size+1)
		}
		c, err := d.chunk(ctx, client.MessagesRequest{From: from, To: to})
		if err != nil {
			return err
		}
		if len(d.list) == 0 { // a replica that lags behind does not have the last ones yet: they are read later
			d.next = max(c.last+1, from)
		}
		d.list = append(c.found, d.list...)
		d.from = from
		d.version++
		size = max(min(size*deadBytes/max(c.bytes, 1), 4*size, deadChunk), 1)
	}
	return nil
}

// forwards reads what is new, up to a sequence: what came after that is read later, once.
func (d *DeadLetters) forwards(ctx context.Context, last uint64) error {
	for end := time.Now().Add(deadFirst); last >= d.next && time.Now().Before(end); {
		c, err := d.chunk(ctx, client.MessagesRequest{From: d.next, To: last, MaxBytes: deadBytes})
		if err != nil || c.last == 0 {
			return err
		}
		d.list = append(d.list, c.found...)
		d.next = c.last + 1
		d.version++
	}
	return nil
}

// deadRead is what one reading has found.
type deadRead struct {
	found []DeadLetter
	last  uint64 // the last sequence that was read; 0: none was
	bytes uint64
}

// chunk reads the dead letters of a range of sequences. It asks for all subjects: for others, the server would count those of the stream
// at each request.
func (d *DeadLetters) chunk(ctx context.Context, request client.MessagesRequest) (c deadRead, err error) {
	request.Stream, request.Subject = d.Source.Subjects.DeadStream(), ">"
	err = d.Source.Messages(ctx, request, func(m *client.Message) error {
		c.last, c.bytes = m.Sequence, c.bytes+uint64(len(m.Data))
		tokens := strings.Split(m.Subject, ".") // namespace, dead, database, kind, key
		if len(tokens) != 5 {
			return nil
		}
		header := func(name string) string { return bounded(m.Headers.Get(name), shownError) }
		c.found = append(c.found, DeadLetter{
			Sequence: m.Sequence, Stored: m.Time, Database: tokens[2], Kind: tokens[3], Key: tokens[4],
			JobID: header(contract.HeaderJobID), Reason: header(contract.HeaderReason), Code: header(contract.HeaderCode),
			Message: shortened(m.Headers.Get(contract.HeaderMessage)), ResultID: header(contract.HeaderResultID), Runner: header(contract.HeaderRunner),
			Redrive: header(contract.HeaderOriginal + contract.HeaderRedriveOf),
		})
		return nil
	})
	return c, err
}

// dropRemoved drops what the stream has no more.
func (d *DeadLetters) dropRemoved(ctx context.Context, stream string) error {
	info, err := d.Source.Info(ctx, stream, map[string]bool{"deleted_details": true})
	if err != nil {
		return err
	}
	gone := make(map[uint64]bool, len(info.State.Deleted))
	for _, sequence := range info.State.Deleted {
		gone[sequence] = true
	}
	before := len(d.list)
	d.list = slices.DeleteFunc(d.list, func(e DeadLetter) bool { return e.Sequence < info.State.FirstSeq || gone[e.Sequence] })
	if len(d.list) != before {
		d.version++
	}
	return nil
}

// EffectNote is what may be known of a dead letter's effect without asking the database.
type EffectNote struct {
	Text string
	Bulk bool // jobs like this one may be redriven together
	Warn bool // look at the database first
	Last bool // it is never published again
}

// EffectOf returns whether the job may have taken effect, and whether it can be redriven together with others.
func EffectOf(d *DeadLetter) EffectNote {
	note := effectOf(d)
	if d.Kind == kindApprove {
		note.Bulk, note.Last = false, true
		if !note.Warn {
			note.Text = "no; an approval is not published again: make a new dry run"
		}
	}
	return note
}

func effectOf(d *DeadLetter) EffectNote {
	switch d.Reason {
	case string(contract.Rejected):
		return EffectNote{Text: "no; it is rejected again until the configuration or the job changes", Bulk: true}
	case contract.ReasonJobIDReused:
		return EffectNote{Text: "no: another request had the id first", Bulk: true}
	case contract.ReasonResultIDTaken:
		return EffectNote{Text: "YES: it took effect; it is never published again", Warn: true, Last: true}
	case contract.ReasonTooManyDeliveries:
		return EffectNote{Text: "see the job's result", Warn: true}
	case string(contract.Unknown):
		return EffectNote{Text: "PERHAPS: look at the database first", Warn: true}
	case string(contract.Canceled), string(contract.Expired):
		return EffectNote{Text: "no", Bulk: true}
	case string(contract.Failed):
	default:
		return EffectNote{Text: "unknown reason: look at the database first", Warn: true}
	}
	switch d.Kind {
	case "statement":
		return EffectNote{Text: "in part, perhaps: a statement is not rolled back", Warn: true}
	case "migration":
		return EffectNote{Text: "files before the one that failed stay applied", Warn: true}
	}
	if slices.Contains(againCodes(), contract.Code(d.Code)) {
		return EffectNote{Text: "no, and it fails again unless the data changes", Bulk: true}
	}
	return EffectNote{Text: "no", Bulk: true}
}

// The kinds whose jobs belong to each other.
const (
	kindDryRun  = "dry_run"
	kindApprove = "approve"
)

// againCodes are those of jobs that fail again as long as the data is the same.
func againCodes() []contract.Code {
	return []contract.Code{
		"unique_violation", "foreign_key_violation", "not_null_violation", "check_violation", "constraint_violation", "data_error",
		"syntax_error", "undefined_object", "permission_denied", "expect_rows_failed", "max_affected_exceeded", "not_countable",
	}
}

// shortened returns a message as it is shown: cut, with its size, if it is long.
func shortened(text string) string {
	if len(text) <= shownError {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", bounded(text, shownError), len(text))
}

// bounded returns at most the first bytes of a text, whole characters.
func bounded(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xc0 == 0x80 {
		most--
	}
	return text[:most]
}
