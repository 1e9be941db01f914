package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/plaintext"
)

const (
	kindDryRun  = "dry_run"
	kindApprove = "approve"
)

// takeDryRun turns the flags into those of a dry run of the transaction in the file that --dry-run names.
func (f *submitFlags) takeDryRun() error {
	kind, name, named := strings.Cut(f.kind, ".")
	switch {
	case f.sql != "" || f.file != "":
		return errors.New("--dry-run takes the body from its own file: leave --sql and --file out")
	case f.later():
		return errors.New("--dry-run runs now: leave --at and --in out")
	case f.outputFlags.file != "":
		return errors.New("--dry-run writes no rows to files: leave --output out")
	case named && kind != "call" && kind != kindDryRun, !named && kind != "query" && kind != "transaction" && kind != kindDryRun:
		return errors.New("--dry-run is for transactions, and for calls of them: --kind call.pay")
	}
	f.file, f.kind = f.dryRun, kindDryRun
	if named {
		f.kind += "." + name
	}
	return nil
}

// printDryRun shows a dry run statement by statement: what was executed, whole, since an approval is of all of it; what it would
// do, and what it returned.
func printDryRun(w io.Writer, s style, r *client.Result) error {
	var request map[string]json.RawMessage
	var statements []map[string]json.RawMessage
	err := json.Unmarshal(r.Request, &request)
	if err = errors.Join(err, json.Unmarshal(request["statements"], &statements)); err != nil || len(statements) != len(r.Statements) {
		return fmt.Errorf("what the dry run %s has executed cannot be read; make a new one: %w", r.JobID, cmp.Or(err, errors.New("statements are missing")))
	}
	what := ""
	if r.Call != nil {
		what = " of " + r.Call.Name
	}
	_, _ = fmt.Fprintf(w, "%s  %s  dry run%s: the transaction would do this\n", s.green("rolled back"), s.dim(r.JobID), what)
	printKeys(w, s, "  ", request, "statements")
	for i := range r.Statements {
		set := &r.Statements[i]
		_, _ = fmt.Fprintf(w, "  statement %d: %s\n", i+1, counts(set))
		var sql string
		_ = json.Unmarshal(statements[i]["sql"], &sql) // a runner has executed it
		for line := range strings.SplitSeq(sql, "\n") {
			_, _ = fmt.Fprintf(w, "    %s\n", s.dim(plaintext.Visible(line, "\t")))
		}
		printKeys(w, s, "    ", statements[i], "sql")
		if err := printRows(w, s, "    ", set); err != nil {
			return err
		}
		if set.RowsOmitted > 0 {
			_, _ = fmt.Fprintf(w, "    %s\n", s.dim(fmt.Sprintf("and %d more rows", set.RowsOmitted)))
		}
	}
	for _, i := range client.WithoutReturnedRows(r) {
		_, _ = fmt.Fprintf(w, "  warning: statement %d writes rows and returns none, so an approval compares their number alone; add RETURNING (SQL Server: OUTPUT)\n", i+1)
	}
	_, err = fmt.Fprintf(w, "  effect %s\n", r.EffectDigest)
	return err
}

// printKeys shows the members of an object but one, each on a line.
func printKeys(w io.Writer, s style, indent string, of map[string]json.RawMessage, without string) {
	for _, key := range slices.Sorted(maps.Keys(of)) {
		if key != without {
			_, _ = fmt.Fprintf(w, "%s%s\n", indent, s.dim(key+" "+plaintext.Visible(string(of[key]), "")))
		}
	}
}

// showsDryRun reports whether a result is shown as a dry run.
func showsDryRun(r *client.Result) bool {
	return r.Kind == kindDryRun && r.Status == contract.Succeeded
}
