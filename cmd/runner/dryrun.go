package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// maxShownSQL bounds what is printed of a statement, bytes.
const maxShownSQL = 2000

// printDryRun shows a dry run statement by statement: its text, what it would do, and what it returned.
func printDryRun(w io.Writer, s style, r *client.Result) error {
	var request struct {
		Statements []struct {
			SQL string `json:"sql"`
		} `json:"statements"`
		Params json.RawMessage `json:"params"`
	}
	_ = json.Unmarshal(r.Request, &request) // what cannot be read is not shown
	what := ""
	if r.Call != nil {
		what = " of " + r.Call.Name + " " + plaintext.Visible(string(request.Params), "")
	}
	_, _ = fmt.Fprintf(w, "%s  %s  %s\n", s.green("rolled back"), s.dim(r.JobID), "dry run"+what+": the transaction would do this")
	for i := range r.Statements {
		set := &r.Statements[i]
		_, _ = fmt.Fprintf(w, "  statement %d: %s\n", i+1, counts(set))
		if i < len(request.Statements) {
			for line := range strings.SplitSeq(clip(request.Statements[i].SQL, maxShownSQL), "\n") {
				_, _ = fmt.Fprintf(w, "    %s\n", s.dim(plaintext.Visible(line, "\t")))
			}
		}
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
	_, err := fmt.Fprintf(w, "  effect %s\n", r.EffectDigest)
	return err
}

// showsDryRun reports whether a result is shown as a dry run.
func showsDryRun(r *client.Result) bool {
	return r.Kind == kindDryRun && r.Status == contract.Succeeded
}
