package migration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"dbrunner/internal/db/dialect"
)

// File is one migration file.
type File struct {
	Version Version
	Name    string
	SHA256  string // of its text, in hexadecimal; lines end with a line feed for it, whatever they end with in the file
	Parts   []dialect.Part
	// Stepwise reports that the file cannot run in one transaction: its parts take effect one by one.
	Stepwise bool
	// Why returns what makes it so, in words; empty if it is not.
	Why string

	down *File // what reverts it, nil if there is none
}

// Direction distinguishes a file that applies from one that reverts.
type direction string

const (
	up   direction = "up"
	down direction = "down"
)

const byteOrderMark = "\xef\xbb\xbf"

// stepwiseMark is the comment at the head of a file that wants to run outside of a transaction.
const stepwiseMark = "dbrunner: no-transaction"

// StepwiseHint ends the error of a statement that cannot run in its file's transaction.
const StepwiseHint = `; write "-- dbrunner: no-transaction" at the head of its file`

// opens and closes match the words of the statements that may surround a file.
var (
	opens  = regexp.MustCompile(`^(BEGIN( TRANSACTION| WORK)?|BEGIN (IMMEDIATE|EXCLUSIVE|DEFERRED)( TRANSACTION)?|START TRANSACTION)$`)
	closes = regexp.MustCompile(`^(COMMIT|END)( TRANSACTION| WORK)?$`)
)

// readFile makes a file of its contents. The error reports what is wrong with it; it never holds any of it.
func readFile(engine Engine, name string, contents []byte) (*File, error) {
	text, err := decode(contents)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(text))
	d := engine.Dialect()
	parts := dialect.Split(d, text)
	if err := readable(d, text, parts); err != nil {
		return nil, err
	}
	f := &File{Name: name, SHA256: hex.EncodeToString(sum[:]), Parts: parts}
	if len(f.Parts) == 0 && len(dialect.Head(d, text)) == 0 {
		return nil, errors.New("no statement; a file that should do nothing contains a comment")
	}
	for i := range f.Parts {
		if f.Parts[i].Times == 0 {
			return nil, fmt.Errorf("line %d: the number after %s must be 1 to 100000",
				f.Parts[i].Line+strings.Count(f.Parts[i].SQL, "\n")+1, d.Separator)
		}
	}
	if err := f.takeTransaction(d); err != nil {
		return nil, err
	}
	f.stepwise(engine, text)
	return f, nil
}

// decode reads the text of a file.
func decode(contents []byte) (string, error) {
	contents = bytes.TrimPrefix(contents, []byte(byteOrderMark))
	switch {
	case bytes.HasPrefix(contents, []byte("\xff\xfe")), bytes.HasPrefix(contents, []byte("\xfe\xff")):
		return "", errors.New("the file is UTF-16; save it as UTF-8")
	case !utf8.Valid(contents):
		return "", errors.New("the file is not UTF-8; save it as UTF-8")
	case bytes.IndexByte(contents, 0) >= 0:
		return "", errors.New("the file contains a NUL character; remove it")
	}
	return strings.ReplaceAll(string(contents), "\r\n", "\n"), nil
}

// readable refuses a text that the server would not read as it is cut here, or whose end would be left out without a word.
func readable(d *dialect.Dialect, text string, parts []dialect.Part) error {
	if d.Foreign != nil {
		if what := d.Foreign(d, text, parts); what != "" {
			return errors.New(what)
		}
	}
	if line := dialect.StrayReturn(d, text); line > 0 {
		return fmt.Errorf("line %d: carriage return without a line feed inside a -- comment; what follows may be read as "+
			"comment; end lines with a line feed", line)
	}
	if what := dialect.Unfinished(d, text); what != "" {
		return errors.New(what)
	}
	return nil
}

// takeTransaction takes the BEGIN and COMMIT away that surround a whole file: it runs in a transaction anyway, which
// has to hold the mark that it is done as well. Other control of transactions would tear the two apart.
func (f *File) takeTransaction(d *dialect.Dialect) error {
	if d.Batches {
		return nil // a text may hold any number of statements: the transaction is looked at when it has run
	}
	if n := len(f.Parts); n > 1 && opens.MatchString(strings.Join(f.Parts[0].Words, " ")) && closes.MatchString(strings.Join(f.Parts[n-1].Words, " ")) {
		f.Parts = f.Parts[1 : n-1]
	}
	for i := range f.Parts {
		if verb := f.Parts[i].Verb(d.TransactionVerb); verb != "" {
			return fmt.Errorf("line %d: %s: a file is one transaction, which may only begin at the start of the file and "+
				"be committed at its end; split the file", f.Parts[i].Line, verb)
		}
	}
	return nil
}

// stepwise finds out whether the file can run in a transaction, which one that does nothing can.
func (f *File) stepwise(engine Engine, text string) {
	if len(f.Parts) == 0 {
		return
	}
	for _, comment := range dialect.Head(engine.Dialect(), text) {
		if strings.EqualFold(comment, stepwiseMark) {
			f.Stepwise, f.Why = true, "its head says "+stepwiseMark
			return
		}
	}
	for i := range f.Parts {
		if word := f.Parts[i].Controls; word != "" {
			f.Stepwise = true
			f.Why = fmt.Sprintf("%s (from line %d on) controls transactions itself", word, f.Parts[i].Line)
			return
		}
		if what := f.Parts[i].NonTransactional(engine.Dialect()); what != "" {
			f.Stepwise = true
			f.Why = fmt.Sprintf("%s (line %d) cannot run in a transaction", what, f.Parts[i].Line)
			return
		}
	}
}
