package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"dbrunner/contract"
)

// File is a schedule that is kept in a file.
type File struct {
	Name  string // of the file
	Line  int    // where it starts
	Key   string
	Value []byte // the record, without a source
}

// FilesError lists what is wrong with files.
type FilesError struct{ Faults []string }

func (e *FilesError) Error() string {
	return fmt.Sprintf("%d errors in the files of schedules; nothing was changed:\n  %s", len(e.Faults), strings.Join(e.Faults, "\n  "))
}

// maxFile bounds a file, bytes.
const maxFile = 4 << 20

// ReadFiles reads all schedules of a folder and those below it: files with the extension yaml, yml or json, with one schedule in
// each document. Each schedule is checked by the rules of its database, as of now. All that is wrong is one *FilesError.
func ReadFiles(files fs.FS, rules *Rules, now time.Time) ([]File, error) {
	r := &filesReader{rules: rules, now: now, seen: map[string]string{}}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && name != "."
		switch {
		case hidden && entry.IsDir():
			return fs.SkipDir
		case hidden || entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)):
			return nil
		}
		return r.file(files, name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of schedules: %w", err)
	}
	if len(r.found) == 0 && len(r.faults) == 0 {
		return nil, errors.New("the folder has no schedules: write files <name>.yaml with the keys key, cron and job")
	}
	if len(r.faults) > 0 {
		return nil, &FilesError{r.faults}
	}
	return r.found, nil
}

// filesReader reads files and notes all that is wrong with them.
type filesReader struct {
	rules  *Rules
	now    time.Time
	found  []File
	seen   map[string]string // where, by key
	faults []string
}

func (r *filesReader) fault(name string, line int, text string) {
	where := name
	if line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	r.faults = append(r.faults, where+": "+text)
}

func (r *filesReader) file(files fs.FS, name string) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		r.fault(name, 0, "larger than 4 MiB: split it")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			r.fault(name, 0, "invalid YAML: "+strings.TrimPrefix(err.Error(), "yaml: "))
			return nil
		}
		r.document(name, document.Content[0])
	}
}

// document reads one schedule.
func (r *filesReader) document(name string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.fault(name, n.Line, "not a schedule: write key, one of cron, every and at, and job")
		return
	}
	key := ""
	record := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "key" {
			key = n.Content[i+1].Value
			continue
		}
		record.Content = append(record.Content, n.Content[i], n.Content[i+1])
	}
	value, err := appendJSON(nil, record)
	if err != nil {
		r.fault(name, n.Line, err.Error())
		return
	}
	id, keyErr := contract.ParseScheduleKey(key)
	switch where, twice := r.seen[key]; {
	case key == "":
		keyErr = errors.New("key is missing; write the key of the schedule, such as jobs.shop.query.nightly_report")
	case keyErr != nil:
		keyErr = fmt.Errorf("key %s: %w", clip(key), keyErr)
	case twice:
		keyErr = fmt.Errorf("key %s is that of another schedule, in %s", key, where)
	}
	var recordErr error
	if keyErr == nil {
		_, recordErr = r.rules.Read(id, value, r.now)
	} else {
		_, _, recordErr = contract.ReadSchedule(value) // the other errors show as well
	}
	for _, err := range []error{keyErr, recordErr} {
		for _, text := range lines(err) {
			r.fault(name, n.Line, text)
		}
	}
	r.seen[key] = name + ":" + strconv.Itoa(n.Line)
	r.found = append(r.found, File{Name: name, Line: n.Line, Key: key, Value: value})
}

// lines returns the lines of an error that joins others.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// appendJSON appends a YAML node as JSON.
func appendJSON(out []byte, n *yaml.Node) ([]byte, error) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return nil, fmt.Errorf("line %d: anchors and aliases are not supported: write the value itself", n.Line)
	case n.Style&yaml.TaggedStyle != 0:
		return nil, fmt.Errorf("line %d: tags such as %s are not supported: write the plain value", n.Line, n.Tag)
	}
	var err error
	switch n.Kind {
	case yaml.MappingNode:
		out = append(out, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				out = append(out, ',')
			}
			if n.Content[i].Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: a key is not a text", n.Content[i].Line)
			}
			out = append(append(out, jsonString(n.Content[i].Value)...), ':')
			if out, err = appendJSON(out, n.Content[i+1]); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, element := range n.Content {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendJSON(out, element); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	default:
		return appendScalar(out, n)
	}
}

func appendScalar(out []byte, n *yaml.Node) ([]byte, error) {
	switch n.Tag {
	case "!!null":
		return append(out, "null"...), nil
	case "!!bool":
		return append(out, strings.ToLower(n.Value)...), nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return append(out, n.Value...), nil
		}
		return nil, fmt.Errorf("line %d: %s is not a number of JSON: write it in decimal digits, or in quotes if it is a text", n.Line, clip(n.Value))
	default: // texts, and times
		return append(out, jsonString(n.Value)...), nil
	}
}

// jsonString encodes a text; it never fails.
func jsonString(text string) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text)
	return bytes.TrimRight(buf.Bytes(), "\n")
}

// clip shortens a text for an error.
func clip(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// WithSource returns a record with a source.
func WithSource(value []byte, source string) ([]byte, error) {
	if source == "" {
		return value, nil
	}
	have := Source(value)
	switch have {
	case source:
		return value, nil
	case "":
		return append([]byte(`{"source":`+string(jsonString(source))+`,`), value[1:]...), nil
	}
	return nil, fmt.Errorf("its source is %s, and --source is %s: write one of them", clip(have), clip(source))
}
