package jobs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
)

// defaultMaxBody is the largest body that is looked into where nothing else is said: what NATS servers take at most
// when they are set up as advised.
const defaultMaxBody = 8 << 20

// Limits on a body, checked before anything in it is interpreted.
const (
	maxDepth  = 64      // nested arrays and objects
	maxValues = 200_000 // values of any kind
)

// maxKindName bounds the name of a kind in a message, bytes.
const maxKindName = 64

// maxPooledNodes bounds the memory that a reader keeps between two bodies.
const maxPooledNodes = 4096

// DecoderOptions is what decoding the jobs of one database needs to know.
type DecoderOptions struct {
	Namespace  string
	Policy     *Policy
	Dialect    *dialect.Dialect
	Inputs     bulk.Inputs // parameters outside of jobs; nil: none are read
	MaxBody    int         // largest body that is looked into, bytes; 0 = 8 MiB
	MaxRequest int         // largest body of a dry run, and what its result repeats of it, bytes; 0 = no limit
}

// Decoder turns the messages of one database into jobs. It is safe for concurrent use.
type Decoder struct {
	opts    DecoderOptions
	kinds   []kind
	readers sync.Pool
}

// NewDecoder returns the decoder of one database.
func NewDecoder(opts DecoderOptions) *Decoder {
	if opts.MaxBody <= 0 || opts.MaxBody > math.MaxInt32 {
		opts.MaxBody = defaultMaxBody
	}
	d := &Decoder{opts: opts, kinds: table()}
	for i := range d.kinds {
		d.kinds[i].known = append(commonKeys(), d.kinds[i].keys...)
	}
	d.readers.New = func() any {
		return &reader{
			kinds: d.kinds, dialect: opts.Dialect, inputs: opts.Inputs, calls: opts.Policy.Catalog.Names(), maxRequest: opts.MaxRequest,
			sharedCommits: opts.Policy.SharedCommits,
		}
	}
	return d
}

// Rejection is a message that is no valid job: all of its faults, and as much of it as could be read.
type Rejection struct {
	ID        string // the id that the answer goes under
	DerivedID bool   // the publisher gave no valid id
	ReplyTo   string // only if valid
	Labels    map[string]string
	Effect    contract.Effect // empty if it could not be read
	Call      *contract.Call  // nil if the job is no call
	Hash      []byte          // nil if the body could not be understood enough
	Code      contract.Code
	Faults    []contract.Fault // at least one
}

// Scanned is what Scan reads of a message.
type Scanned struct {
	ID        string
	DerivedID bool
	Effect    contract.Effect // empty if it could not be read
	ReplyTo   string          // only if valid
	Call      *contract.Call  // nil if the job is no call
}

// Scan reads the id, the effect and the reply subject of a message exactly as Decode has them, in constant memory
// and without interpreting anything else. It reads bodies of any size.
func (d *Decoder) Scan(in *Message) Scanned {
	var who identity
	who.scan(in.Body)
	id, derived := who.jobID(in)
	k := d.kind(in)
	return Scanned{ID: id, DerivedID: derived, Effect: d.effectOf(&who, k, in), ReplyTo: who.reply(d, in), Call: d.callOf(k, in)}
}

// kind returns the kind of a message's job; nil if there is none of its name.
func (d *Decoder) kind(in *Message) (found *kind) {
	for i := range d.kinds {
		k := &d.kinds[i]
		if k.name == in.Kind && (found == nil || k.named == (in.Name != "")) {
			found = k
		}
	}
	return found
}

// Decode reads a job's message. Either a valid job comes back, its statements compiled for the database, or a
// rejection with every fault of the body. The job keeps nothing of in.
func (d *Decoder) Decode(in *Message) (*Job, *Rejection) {
	if len(in.Body) > d.opts.MaxBody {
		return nil, d.unreadable(in, contract.Fault{
			Code: contract.CodeTooLarge, Message: "the body is larger than " + strconv.Itoa(d.opts.MaxBody) + " bytes",
		})
	}
	r := d.readers.Get().(*reader)
	defer d.release(r)
	r.reset()
	if fault := r.Read(in.Body, maxDepth, maxValues); fault != nil {
		return nil, d.unreadable(in, r.syntaxError(in.Body, fault))
	}
	if r.Kind(0) != jsontext.Object {
		return nil, d.unreadable(in, contract.Fault{Code: contract.CodeInvalidJSON, Message: "the body must be one JSON object"})
	}
	return d.interpret(r, in)
}

func (d *Decoder) release(r *reader) {
	if r.Capacity() > maxPooledNodes || cap(r.scratch) > maxPooledNodes*8 {
		return
	}
	r.faults = nil
	r.Forget()
	d.readers.Put(r)
}

// unreadable rejects a body whose JSON is not looked into; what its beginning says about id, effect and reply
// subject counts.
func (d *Decoder) unreadable(in *Message, fault contract.Fault) *Rejection {
	s := d.Scan(in)
	return &Rejection{
		ID: s.ID, DerivedID: s.DerivedID, Effect: s.Effect, ReplyTo: s.ReplyTo, Call: s.Call,
		Code: fault.Code, Faults: []contract.Fault{fault},
	}
}

// syntaxError locates where a body stops being acceptable, without repeating any of it.
func (r *reader) syntaxError(body []byte, err *jsontext.SyntaxError) contract.Fault {
	before := string(body[:err.Offset])
	line := 1 + strings.Count(before, "\n")
	code := contract.CodeInvalidJSON
	switch err.Problem {
	case jsontext.TooManyValues:
		code = contract.CodeTooLarge
	case jsontext.TooDeep:
		code = contract.CodeTooDeep
	default:
	}
	column := err.Offset - strings.LastIndexByte(before, '\n')
	return contract.Fault{
		Path: jsontext.Clip(r.Path(r.Stopped()), maxFaultPath), Code: code,
		Message: fmt.Sprintf("%s (line %d, byte %d)", err.Message, line, column),
	}
}

// interpret makes a job of a body that is one JSON object.
func (d *Decoder) interpret(r *reader, in *Message) (*Job, *Rejection) {
	k := d.kind(in)
	if k == nil || !d.allows(k) || !d.queues(k, in.Queue) {
		return nil, d.unreadable(in, d.forbiddenKind(in))
	}
	return d.interpretAs(k, r, in)
}

// interpretAs makes a job of a kind of a body that is one JSON object.
func (d *Decoder) interpretAs(k *kind, r *reader, in *Message) (*Job, *Rejection) {
	if k.name == "dry_run" && d.opts.MaxRequest > 0 && len(in.Body) > d.opts.MaxRequest {
		return nil, d.unreadable(in, contract.Fault{Code: contract.CodeTooLarge, Message: "the body of a dry run is larger than " +
			strconv.Itoa(d.opts.MaxRequest) + " bytes: its result repeats it"})
	}
	r.twice = r.members(0, k.known, r.top[:])
	job := &Job{Database: in.Database, Kind: k.name, rows: k.rows, Rereads: k.rereads, Call: d.callOf(k, in)}
	if k.named {
		r.called, r.calledName = d.opts.Policy.Catalog.Statement(in.Name), in.Name
	}
	d.identify(r, job, k, in)
	r.envelope(job, in, d.opts.Policy)

	before := r.faulty()
	job.work = k.decode(r, r.top[commonKeyCount:commonKeyCount+len(k.keys)])
	understood := (r.faulty() == before || r.understood) && r.twice>>commonKeyCount == 0
	if k.named {
		d.limitCall(r, job)
	}
	if d.ordered(in.Queue) {
		checkOrdered(r, job)
	}
	if understood && (job.Effect != "" || k.named) {
		job.Hash, r.scratch = requestHash(r.scratch, job)
	}
	checkID(r, job)
	if r.faulty() > 0 {
		return nil, rejection(job, r.takeFaults())
	}
	return job, nil
}

// allows reports whether jobs of a kind run on this database.
func (d *Decoder) allows(k *kind) bool {
	p := d.opts.Policy
	return p.allows(k) && (!k.session || !p.Pooled)
}

// ordered reports whether a queue is an ordered one.
func (d *Decoder) ordered(queue string) bool {
	return queue != "" && slices.Contains(d.opts.Policy.Ordered, queue)
}

// queues reports whether jobs of a kind may be in a queue; empty: in none.
func (d *Decoder) queues(k *kind, queue string) bool {
	return queue == "" || k.queued && (k.ordered || !d.ordered(queue))
}

// checkOrdered rejects what an ordered queue does not take: what the ledger does not fence, and what leaves no stored result.
func checkOrdered(r *reader, job *Job) {
	if job.Effect != "" && job.Effect != contract.ExactlyOnce {
		r.rejectBelow(0, "effect", contract.CodeEffectNotAllowed,
			string(job.Effect)+" does not run in an ordered queue: write exactly_once, or publish the job to another queue")
	}
	if job.ReplyOnly {
		r.reject(r.top[keyAnswer], contract.CodeInvalidValue, "the result of a job in an ordered queue is always stored: leave answer out")
	}
}

func (d *Decoder) forbiddenKind(in *Message) contract.Fault {
	name, where := in.Kind, "on this database"
	switch {
	case d.ordered(in.Queue):
		where = "in ordered queues of this database"
	case in.Queue != "":
		where = "in queues of this database"
	}
	var allowed []string
	for i := range d.kinds {
		if d.allows(&d.kinds[i]) && d.queues(&d.kinds[i], in.Queue) {
			allowed = append(allowed, d.kinds[i].form())
		}
	}
	why := ""
	if k := d.kind(in); k != nil && k.session && d.opts.Policy.Pooled {
		why = " (they need a session of their own, and it is reached through a pooler in transaction mode)"
	}
	return contract.Fault{
		Code: contract.CodeKindNotAllowed,
		Message: "jobs of kind " + jsontext.Clip(name, maxKindName) + " do not run " + where + why + "; these do: " +
			strings.Join(allowed, ", "),
	}
}

// identify resolves id, effect and reply subject, and notes what is wrong with them.
func (d *Decoder) identify(r *reader, job *Job, k *kind, in *Message) {
	who := identity{
		id: r.claim(keyID), effect: r.claim(keyEffect), replyTo: r.claim(keyReplyTo), readable: true,
	}
	job.ID, job.DerivedID = who.jobID(in)
	job.Effect = d.effectOf(&who, k, in)
	job.ReplyTo = who.reply(d, in)
	if at := r.top[keyID]; at != 0 {
		id, ok := r.isString(at, "1 to 100 of A-Z, a-z, 0-9, _ and -")
		switch {
		case !ok || contract.ValidID(id):
		case contract.IsDerivedID(id):
			r.reject(at, contract.CodeInvalidID, "s, digits, _ and letters: this form is kept for jobs without an id, write another")
		default:
			r.reject(at, contract.CodeInvalidID, "an id is 1 to 100 of A-Z, a-z, 0-9, _ and -")
		}
	}
	if at := r.top[keyReplyTo]; at != 0 {
		if subject, ok := r.isString(at, "a NATS subject"); ok {
			if err := contract.ValidReply(d.opts.Namespace, in.Database, subject, d.opts.Policy.ReplyTo); err != nil {
				r.reject(at, contract.CodeReplyTo, err.Error())
			}
		}
	}
	if k.fixed {
		d.checkFixedEffect(r, job.Effect, k)
		return
	}
	d.checkEffect(r, job.Effect, k)
}

// claim returns what the body says under one of the common keys.
func (r *reader) claim(key int) (c claim) {
	at := r.top[key]
	if at == 0 {
		return c
	}
	c.count = 1 + int(r.twice>>key&1)
	if r.Kind(at) == jsontext.String {
		c.text, c.known = r.Str(at), true
	}
	return c
}

// checkEffect rejects a wrong effect: not one of the kind's, or not allowed on this database.
func (d *Decoder) checkEffect(r *reader, effect contract.Effect, k *kind) {
	at, p := r.top[keyEffect], d.opts.Policy
	switch {
	case effect == "" && r.twice>>keyEffect&1 == 1: // rejected already
	case effect == "":
		r.reject(at, contract.CodeEffectNotAllowed, "jobs of kind "+k.name+" accept one of: "+joinEffects(k.effects)+r.hintNull(at))
	case p.AllowsEffect(effect):
	case !p.Ledger && (effect == contract.ExactlyOnce || effect == contract.AtMostOnce):
		r.rejectBelow(0, "effect", contract.CodeEffectNotAllowed,
			string(effect)+" needs a ledger and this database has none"+d.otherEffects(k))
	default:
		r.rejectBelow(0, "effect", contract.CodeEffectNotAllowed,
			string(effect)+" is not allowed on this database"+d.otherEffects(k))
	}
}

// otherEffects names the effects that a kind may have on this database.
func (d *Decoder) otherEffects(k *kind) string {
	var allowed []contract.Effect
	for _, e := range k.effects {
		if d.opts.Policy.AllowsEffect(e) {
			allowed = append(allowed, e)
		}
	}
	if len(allowed) == 0 {
		return ", nor is any other for jobs of kind " + k.name
	}
	return ": write " + joinEffects(allowed)
}

func joinEffects(effects []contract.Effect) string {
	words := make([]string, len(effects))
	for i, e := range effects {
		words[i] = string(e)
	}
	return strings.Join(words, " or ")
}

func rejection(job *Job, faults []contract.Fault) *Rejection {
	code := faults[0].Code
	for _, f := range faults {
		if f.Code != code {
			code = contract.CodeInvalidBody
		}
	}
	return &Rejection{
		ID: job.ID, DerivedID: job.DerivedID, ReplyTo: job.ReplyTo, Labels: job.Labels,
		Effect: job.Effect, Call: job.Call, Hash: job.Hash, Code: code, Faults: faults,
	}
}

// Final reports whether a message is rejected by its text alone: what is no JSON object, or has a key twice, is no job for
// any version with any configuration.
func (r *Rejection) Final() bool {
	return slices.ContainsFunc(r.Faults, func(f contract.Fault) bool {
		return f.Code == contract.CodeInvalidJSON || f.Code == contract.CodeDuplicateKey
	})
}

// Message says in one line what is wrong, for people; it holds no value of the body's.
func (r *Rejection) Message() string {
	first := r.Faults[0]
	text := first.Message
	if first.Path != "" {
		text = first.Path + ": " + text
	}
	if len(r.Faults) > 1 {
		text = fmt.Sprintf("%d faults, the first one: %s", len(r.Faults), text)
	}
	return text
}

// ResultError is the error of the result that the message gets.
func (r *Rejection) ResultError() *contract.Error {
	return &contract.Error{Code: r.Code, Message: r.Message(), Faults: r.Faults}
}
