package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/parquet-go/parquet-go"

	"dbrunner/test/faults/check"
)

// upload is an object that a client puts into the store before it publishes the job that names it.
type upload struct {
	name    string
	content []byte
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:])
}

// batch is a job with a list of parameters in its message.
func (p *planner) batch(name string) {
	n := 2 + p.rng.IntN(60)
	list := make([]body, n)
	for i := range list {
		list[i] = loaded(name, i)
	}
	p.publish(p.request(name, "batch", p.where(), "transaction", check.ExactlyOnce, n, body{"statements": []body{
		{"sql": insertLoaded, "batch": list, "expect_rows": n},
	}}))
}

// bulk is a job whose list of parameters is an object beside it.
func (p *planner) bulk(name string) {
	n := 50 + p.rng.IntN(400)
	var content bytes.Buffer
	for i := range n {
		line, err := json.Marshal(loaded(name, i))
		if err != nil {
			panic(err) // a map of texts and numbers
		}
		content.Write(append(line, '\n'))
	}
	u := &upload{name: name + ".ndjson", content: content.Bytes()}
	p.publish(p.request(name, "bulk", p.where(), "transaction", check.ExactlyOnce, n, body{"statements": []body{
		{"sql": insertLoaded, "params_from": body{"name": u.name, "digest": digest(u.content)}, "expect_rows": n},
	}}))
	p.messages[len(p.messages)-1].upload = u
}

const insertLoaded = insertEffect + `(:request, 0, 0, :i, :private)`

func loaded(name string, i int) body { return body{"request": name, "i": i, "private": privateValue} }

// The formats whose rows the collector reads again, and the compressions of them.
var (
	formats      = []string{"ndjson", "csv", "json", "parquet"}
	compressions = []string{"none", "gzip", "zstd"}
)

// outside asks for rows in the object store.
func (p *planner) outside() body {
	return body{"output": "object", "format": formats[p.rng.IntN(len(formats))], "compression": compressions[p.rng.IntN(len(compressions))]}
}

// object is a query whose rows go to the object store.
func (p *planner) object(name string) {
	n, database := 1+p.rng.IntN(4000), p.where()
	b := p.outside()
	b["sql"], b["params"] = numberedRows[database], body{"n": n}
	if database == edge && b["format"] == "parquet" { // an expression has no type in SQLite, and is text there
		b["format"] = "csv"
	}
	r := p.request(name, "object", database, "query", check.ReadOnly, 0, b)
	r.Outside = n
	p.publish(r)
}

// objectWrite is a transaction that takes effect and whose rows go to the object store.
func (p *planner) objectWrite(name string) {
	n := 1 + p.rng.IntN(300)
	b := p.outside()
	b["statements"] = []body{{"sql": insertNumbered[primary(p)], "params": body{"request": name, "n": n, "private": privateValue}}}
	r := p.request(name, "object_write", primary(p), "transaction", check.ExactlyOnce, n, b)
	r.Outside = n
	p.publish(r)
}

// bucket is the name of one of the run's object stores.
func (r *round) bucket(what string) string { return strings.ToUpper(r.namespace) + "_" + what }

// put stores an object and returns when the store has it.
func (c *clients) put(ctx context.Context, u *upload) {
	for ctx.Err() == nil {
		if c.tryPut(ctx, u) == nil {
			return
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
}

func (c *clients) tryPut(ctx context.Context, u *upload) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	store, err := c.r.js.ObjectStore(ctx, c.r.bucket("PARAMS"))
	if err != nil {
		return err
	}
	_, err = store.PutBytes(ctx, u.name, u.content)
	return err
}

// collectObjects reads all rows that are outside of results.
func (r *round) collectObjects(ctx context.Context, h *check.History) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	store, err := r.js.ObjectStore(ctx, r.bucket("ROWS"))
	if err != nil {
		return fmt.Errorf("the store of rows: %w", err)
	}
	list, err := store.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the store of rows: %w", err)
	}
	chunks, err := countChunks(ctx, r.js, r.bucket("ROWS"))
	if err != nil {
		return fmt.Errorf("the store of rows: %w", err)
	}
	for _, info := range list {
		if there := chunks[info.NUID]; there != uint64(info.Chunks) { // the library waits for the first one as long as it may
			h.Objects[info.Name] = check.Object{Problem: fmt.Sprintf("%d of %d chunks are there", there, info.Chunks)}
			continue
		}
		content, err := store.GetBytes(ctx, info.Name)
		if ctx.Err() != nil { // the machine is too busy: no violation
			return fmt.Errorf("read rows outside of results: %w", ctx.Err())
		}
		if err != nil {
			h.Objects[info.Name] = check.Object{Problem: err.Error()}
			continue
		}
		o := check.Object{Size: int64(len(content)), Digest: digest(content)}
		if o.Rows, err = countRows(info.Name, content); err != nil {
			o.Problem = err.Error()
		}
		h.Objects[info.Name] = o
	}
	return nil
}

// countChunks counts the chunks of each object that an object store has.
func countChunks(ctx context.Context, js jetstream.JetStream, bucket string) (map[string]uint64, error) {
	stream, err := js.Stream(ctx, "OBJ_"+bucket)
	if err != nil {
		return nil, err
	}
	prefix := "$O." + bucket + ".C."
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, err
	}
	chunks := make(map[string]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		chunks[strings.TrimPrefix(subject, prefix)] = n
	}
	return chunks, nil
}

// countRows counts the rows of a file whose name has its format. Each row has to hold its own number, from 1.
func countRows(name string, content []byte) (int, error) {
	in := io.Reader(bytes.NewReader(content))
	plain := name
	switch {
	case strings.HasSuffix(name, ".gz"):
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return 0, err
		}
		in, plain = unpacked, strings.TrimSuffix(name, ".gz")
	case strings.HasSuffix(name, ".zst"):
		unpacked, err := zstd.NewReader(in)
		if err != nil {
			return 0, err
		}
		defer unpacked.Close()
		in, plain = unpacked, strings.TrimSuffix(name, ".zst")
	}
	numbers, err := readNumbers(plain[strings.LastIndexByte(plain, '.')+1:], in, content)
	if err != nil {
		return 0, err
	}
	for i, n := range numbers {
		if n != int64(i+1) {
			return len(numbers), fmt.Errorf("row %d has the number %d", i+1, n)
		}
	}
	return len(numbers), nil
}

// numbered is a row.
type numbered struct {
	I *int64 `json:"i" parquet:"i,optional"`
}

func readNumbers(format string, in io.Reader, content []byte) (numbers []int64, err error) {
	var rows []numbered
	switch format {
	case "ndjson":
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var row numbered
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	case "json":
		err = json.NewDecoder(in).Decode(&rows)
	case "csv":
		return readCSV(in)
	case "parquet":
		rows, err = parquet.Read[numbered](bytes.NewReader(content), int64(len(content)))
	default:
		err = fmt.Errorf("the format %q", format)
	}
	for _, row := range rows {
		if row.I == nil {
			return nil, errors.New("a row has no number")
		}
		numbers = append(numbers, *row.I)
	}
	return numbers, err
}

func readCSV(in io.Reader) (numbers []int64, err error) {
	records, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, record := range records[min(1, len(records)):] {
		n, err := strconv.ParseInt(record[0], 10, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}
