package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/schedule"
)

const scheduleApplyHelp = `Write the schedules that are kept in a folder, and those below it: files *.yaml, *.yml and *.json, with one schedule in each
document.

  key: jobs.shop.query.nightly_report
  cron: "0 3 * * *"
  time_zone: Europe/Berlin
  job: {sql: "SELECT refresh_report()"}

Only what differs is written. Nothing is written unless all files are right: one report has all errors of all files. Pauses
stay. --source names where the schedules are kept; a schedule of another source is never changed or removed.

The command needs permission to write the keys: $KV.DBRUNNER_SCHEDULES.jobs.<database>.<kind>.*.
`

type applyFlags struct {
	clientFlags
	auditFlags
	folder, source string
	prune, dryRun  bool
	json           bool
}

func newScheduleApply() *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use:     "apply -f DIR",
		Short:   "Write the schedules that are kept in a folder",
		Long:    scheduleApplyHelp + clientHelp,
		Example: "  runner schedule apply -f schedules --source shop-repository --prune",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.folder, "folder", "f", "", "folder with the files (required)")
	flags.StringVar(&f.source, "source", "", "where the schedules are kept, such as the name of a repository")
	flags.BoolVar(&f.prune, "prune", false, "remove schedules of the source that are not in the folder")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be written, and write nothing")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	f.addAudit(cmd, byUsage, reasonFlag)
	f.add(cmd)
	return cmd
}

// change is what happens to one schedule.
type change struct {
	Key    string `json:"key"`
	Change string `json:"change"` // created, changed, unchanged, removed or past

	value    []byte
	expected uint64
}

func (f *applyFlags) run(cmd *cobra.Command) error {
	switch {
	case f.folder == "":
		return usage(errors.New("-f must name the folder with the schedules"))
	case f.prune && f.source == "":
		return usage(errors.New("--prune needs --source: it removes only schedules of one source"))
	case len([]rune(f.source)) > contract.MaxScheduleSource:
		return usage(fmt.Errorf("--source has at most %d characters", contract.MaxScheduleSource))
	}
	if info, err := os.Stat(f.folder); err != nil {
		return usage(fmt.Errorf("the folder of -f: %w", err))
	} else if !info.IsDir() {
		return usage(fmt.Errorf("-f must name a folder: %s is a file", f.folder))
	}
	files, err := f.read(os.DirFS(f.folder))
	if err != nil {
		return usage(err)
	}
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		changes, err := f.compare(ctx, s, files)
		if err != nil {
			return explainSchedules(s, err)
		}
		if !f.dryRun {
			err = f.write(ctx, cmd, s, changes)
		}
		if f.json {
			return errors.Join(err, printJSON(cmd.OutOrStdout(), changes))
		}
		for i := range changes {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), changes[i].Change+" "+changes[i].Key)
		}
		return err
	})
}

// read reads the files, and gives each record the source.
func (f *applyFlags) read(folder fs.FS) ([]schedule.File, error) {
	files, err := schedule.ReadFiles(folder, clientRules(), time.Now())
	if err != nil {
		return nil, err
	}
	var faults []string
	for i := range files {
		if files[i].Value, err = schedule.WithSource(files[i].Value, f.source); err != nil {
			faults = append(faults, fmt.Sprintf("%s:%d: %s", files[i].Name, files[i].Line, err))
		}
	}
	if len(faults) > 0 {
		return nil, &schedule.FilesError{Faults: faults}
	}
	return files, nil
}

// compare returns what has to be written. A one-time schedule whose time is over and that is not there is left out.
func (f *applyFlags) compare(ctx context.Context, s *session, files []schedule.File) ([]change, error) {
	all, err := listSchedules(ctx, s)
	if err != nil {
		return nil, err
	}
	have := map[string]*schedule.Record{}
	for i := range all {
		have[all[i].Key] = &all[i].Record
	}
	changes := []change{}
	var faults []string
	kept := map[string]bool{}
	for i := range files {
		file := &files[i]
		kept[file.Key] = true
		c := change{Key: file.Key, Change: "created", value: file.Value}
		record := have[file.Key]
		if record != nil {
			c.expected = max(record.Revision, record.Removed)
		}
		switch {
		case record == nil || !record.Exists:
			if over(file.Value) {
				c.Change = "past"
			}
		case schedule.Source(record.Value) != schedule.Source(file.Value):
			faults = append(faults, fmt.Sprintf("%s:%d: the schedule %s is there from the source %q; apply it with that --source, or remove it there first",
				file.Name, file.Line, file.Key, schedule.Source(record.Value)))
		case schedule.SameAs(record.Value, file.Value):
			c.Change = "unchanged"
		default:
			c.Change = "changed"
		}
		changes = append(changes, c)
	}
	if len(faults) > 0 {
		return nil, &schedule.FilesError{Faults: faults}
	}
	for i := range all {
		l := &all[i]
		if f.prune && l.Record.Exists && !kept[l.Key] && schedule.Source(l.Record.Value) == f.source {
			changes = append(changes, change{Key: l.Key, Change: "removed", expected: l.Record.Revision})
		}
	}
	return changes, nil
}

// over reports whether a record is that of a one-time schedule whose time is over.
func over(value []byte) bool {
	record, _, err := contract.ReadSchedule(value)
	return err == nil && record.At != nil && record.At.Before(time.Now())
}

// write writes the changes, after audit entries about them.
func (f *applyFlags) write(ctx context.Context, cmd *cobra.Command, s *session, changes []change) error {
	for _, what := range []string{"created", "changed", "removed"} {
		var keys []string
		for i := range changes {
			if changes[i].Change == what {
				keys = append(keys, changes[i].Key)
			}
		}
		if err := f.recordSchedules(ctx, cmd, s, what, keys); err != nil {
			return err
		}
	}
	store := schedules.New(s.conn)
	var errs []error
	for i := range changes {
		c := &changes[i]
		var err error
		switch c.Change {
		case "created", "changed":
			_, err = store.PutRecord(ctx, c.Key, c.value, c.expected)
		case "removed":
			_, err = store.RemoveRecord(ctx, c.Key, c.expected)
		}
		if err != nil {
			c.Change = "failed"
			errs = append(errs, fmt.Errorf("%s: %w", c.Key, explainSchedules(s, err)))
		}
	}
	return errors.Join(errs...)
}
