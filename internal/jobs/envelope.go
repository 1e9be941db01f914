package jobs

import (
	"strconv"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// Where the keys that every kind has are in their list; a kind's own keys follow.
const (
	keyVersion = iota
	keyID
	keyReplyTo
	keyTimeout
	keyExpiresAt
	keyExpiresIn
	keyEffect
	keyRowFormat
	keyMaxRows
	keyAnswer
	keyLabels
	keyOutput
	keyFormat
	keyCompression
	commonKeyCount
)

// maxKeys bounds the keys that a kind knows, the common ones included.
const maxKeys = 24

func commonKeys() []string {
	return []string{
		keyVersion: "version", keyID: "id", keyReplyTo: "reply_to", keyTimeout: "timeout",
		keyExpiresAt: "expires_at", keyExpiresIn: "expires_in", keyEffect: "effect", keyRowFormat: "row_format",
		keyMaxRows: "max_rows", keyAnswer: "answer", keyLabels: "labels",
		keyOutput: "output", keyFormat: "format", keyCompression: "compression",
	}
}

// Limits on labels, in bytes.
const (
	maxLabels     = 32
	maxLabelName  = 64
	maxLabelValue = 512
	maxLabelBytes = 16 << 10
)

// envelope reads the keys that every kind has into the job. Id, effect and reply subject are read already.
func (r *reader) envelope(job *Job, in *Message, p *Policy) {
	if at := r.top[keyVersion]; at != 0 && (r.Kind(at) != jsontext.Number || r.Raw(at) != "1") {
		r.reject(at, contract.CodeVersion, "unsupported version of the contract: write 1, or leave the key out")
	}
	r.timeout(job, p)
	r.expiry(job, in)
	job.RowFormat = db.Objects
	if at := r.top[keyRowFormat]; at != 0 {
		if i, ok := r.isOneOf(at, "objects", "arrays"); ok {
			job.RowFormat = db.Objects + db.RowFormat(i)
		}
	}
	if at := r.top[keyMaxRows]; at != 0 {
		job.MaxRows, _ = r.isInteger(at, 1, "the largest number of rows, 1 or more")
	}
	if at := r.top[keyLabels]; at != 0 {
		job.Labels = r.labels(at)
	}
	if at := r.top[keyAnswer]; at != 0 {
		r.answer(at, job)
	}
	r.output(job, p)
}

func (r *reader) timeout(job *Job, p *Policy) {
	fallback, ceiling := p.timeouts(job.Kind)
	job.Timeout = fallback
	if ceiling > 0 && job.Timeout > ceiling {
		job.Timeout = ceiling
	}
	at := r.top[keyTimeout]
	if at == 0 {
		return
	}
	timeout, ok := r.isDuration(at)
	switch {
	case !ok:
	case ceiling > 0 && timeout > ceiling:
		r.reject(at, contract.CodeInvalidValue, "is longer than this database allows: at most "+ceiling.String())
	default:
		job.Timeout = timeout
	}
}

// isDuration reads a Go duration above zero; anything else is a fault.
func (r *reader) isDuration(at int) (time.Duration, bool) {
	if r.Kind(at) == jsontext.String {
		if d, err := time.ParseDuration(r.Str(at)); err == nil && d > 0 {
			return d, true
		}
	}
	r.reject(at, contract.CodeInvalidValue, `must be a duration above zero in a string, such as "30s" or "1m30s"`+r.hintNull(at))
	return 0, false
}

func (r *reader) expiry(job *Job, in *Message) {
	moment, in0 := r.top[keyExpiresAt], r.top[keyExpiresIn]
	if moment != 0 && in0 != 0 {
		r.reject(in0, contract.CodeInvalidValue, "expires_at is there too: write one of the two")
	}
	if moment != 0 {
		var t time.Time
		if r.Kind(moment) == jsontext.String && t.UnmarshalText([]byte(r.Str(moment))) == nil {
			job.ExpiresAt = t.UTC()
		} else {
			r.reject(moment, contract.CodeInvalidValue,
				`must be an RFC 3339 time with its zone, such as "2030-01-31T12:00:00Z"`+r.hintNull(moment))
		}
	}
	if in0 != 0 {
		if d, ok := r.isDuration(in0); ok {
			job.ExpiresAt = in.Timestamp.Add(d)
		}
	}
}

func (r *reader) answer(at int, job *Job) {
	i, ok := r.isOneOf(at, "stored", "reply")
	if !ok || i == 0 {
		return
	}
	job.ReplyOnly = true
	if r.top[keyReplyTo] == 0 {
		r.reject(at, contract.CodeInvalidValue, "an answer by reply only needs a reply_to")
	}
	if job.Effect != contract.ReadOnly && job.Effect != "" {
		r.reject(at, contract.CodeInvalidValue, `only a read_only job may be answered by reply only: write "stored"`)
	}
}

// labels reads the labels; nil after a fault.
func (r *reader) labels(at int) map[string]string {
	if !r.isObject(at, "names with strings") {
		return nil
	}
	n := r.Len(at) / 2
	if n > maxLabels {
		r.reject(at, contract.CodeInvalidValue, "may have at most "+strconv.Itoa(maxLabels)+" labels")
		return nil
	}
	labels, size, before := make(map[string]string, n), 0, r.faulty()
	for key := at + 1; key < r.After(at); key = r.After(key + 1) {
		name, value := r.label(key)
		if _, there := labels[name]; there {
			r.reject(key, contract.CodeDuplicateKey, "duplicate label: write it once")
		}
		labels[name] = value
		size += len(name) + len(value)
	}
	if size > maxLabelBytes {
		r.reject(at, contract.CodeInvalidValue, "may have at most 16 KiB of text")
	}
	if r.faulty() > before {
		return nil
	}
	return labels
}

func (r *reader) label(key int) (name, value string) {
	name = r.Str(key)
	if name == "" || len(name) > maxLabelName || !printable(name) {
		r.reject(key, contract.CodeInvalidValue, "a label's name has 1 to 64 bytes and no control characters")
	}
	value, ok := r.isString(key+1, "labels are text")
	if ok && (len(value) > maxLabelValue || !printable(value)) {
		r.reject(key, contract.CodeInvalidValue, "a label's text has at most 512 bytes and no control characters")
	}
	return name, value
}
