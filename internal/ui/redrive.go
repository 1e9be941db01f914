package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/format"
)

// chosen are the dead letters of a redrive: one by its name, or all of a group that are safe to publish together.
func (s *operator) chosen(ctx context.Context, r *http.Request) (deadFilter, []fleet.DeadLetter, error) {
	f, ok := filterOf(r)
	if !ok || f.Name == "" && f.Database == "" {
		return f, nil, fmt.Errorf("no dead letter is named: %w", errInput)
	}
	found, err := s.dead.Get(ctx, func(d *fleet.DeadLetter) bool { return f.fits(d) && (f.Name != "" || fleet.EffectOf(d).Bulk) })
	if err != nil {
		return f, nil, err
	}
	if len(found.List) == 0 {
		return f, nil, fmt.Errorf("there is no such dead letter any more: %w", errInput)
	}
	return f, found.List, nil
}

func (s *operator) askRedrive(ctx context.Context, r *http.Request) (*confirmation, error) {
	f, list, err := s.chosen(ctx, r)
	if err != nil {
		return nil, err
	}
	first := &list[0]
	c := &confirmation{
		Database: first.Database, Danger: true, Reason: "Why (optional)", Back: "/dead?db=" + first.Database,
		Hidden: hiddenOf(f, list),
	}
	if f.Name != "" {
		note := fleet.EffectOf(first)
		c.Verb, c.What = "Redrive", "Publish the job "+first.JobID+" again, as "+client.NextID(first.JobID)+"."
		c.Notes = []string{"Did it take effect? " + note.Text, format.Shown(format.Clip(firstText(first.Code, first.Reason)+": "+first.Message, format.Error))}
		if note.Warn {
			c.Notes = append(c.Notes, "A job whose outcome is unknown is not redriven here: check the database, then use runner dead redrive --force.")
		}
		return c, nil
	}
	c.Count = len(list)
	c.Verb = "Redrive " + format.Number(c.Count)
	c.What = "Publish " + format.Number(c.Count) + " jobs of " + first.Database + " again, as <id>_r1 (or counted up)."
	c.Notes = []string{"Cause: " + format.Shown(firstText(first.Code, first.Reason)), "Did they take effect? " + fleet.EffectOf(first).Text}
	return c, nil
}

// hiddenOf keeps what was shown: dead letters that arrive later are not part of it.
func hiddenOf(f deadFilter, list []fleet.DeadLetter) map[string]string {
	return map[string]string{
		"db": f.Database, "kind": f.Kind, "reason": f.Reason, "code": f.Code, "name": f.Name, "upto": strconv.FormatUint(list[len(list)-1].Sequence, 10),
	}
}

func (s *operator) doRedrive(ctx context.Context, r *http.Request) (*outcome, error) {
	f, list, err := s.chosen(ctx, r)
	if err != nil {
		return nil, err
	}
	if f.Name == "" {
		typed, err := strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(r.PostFormValue("count")), ",", ""))
		if err != nil || typed != len(list) {
			return nil, fmt.Errorf("%d dead letters match now, and another number was typed: %w", len(list), errInput)
		}
	}
	select {
	case s.bulk <- struct{}{}:
	default:
		return nil, fmt.Errorf("another redrive is under way; wait until it is done: %w", errInput)
	}
	entry := &contract.AuditEntry{Action: contract.AuditRedrive, Database: list[0].Database}
	for i := range list {
		entry.Targets = append(entry.Targets, list[i].Name())
	}
	notes, _, err := s.record(ctx, r, entry)
	if err != nil {
		<-s.bulk
		return nil, err
	}
	out := &outcome{Title: "Redriving " + format.Number(len(list)), Lines: notes, Back: "/dead?db=" + list[0].Database, Running: true}
	work := context.WithoutCancel(ctx)
	if len(list) == 1 { // soon done
		defer func() { <-s.bulk }()
		s.redriveAll(work, list, func(change func(*outcome)) { change(out) })
		return out, nil
	}
	out.begin = func(id string) {
		s.actions.Go(func() {
			defer func() { <-s.bulk }()
			s.redriveAll(work, list, func(change func(*outcome)) { s.outcomes.update(id, change) })
		})
	}
	return out, nil
}

// redriveEach bounds one job of a redrive.
const redriveEach = 10 * time.Second

// redriveAll publishes jobs again, one after the other, and reports how far it is.
func (s *operator) redriveAll(ctx context.Context, list []fleet.DeadLetter, update func(func(*outcome))) {
	done := 0
	for i := range list {
		select {
		case <-s.closing:
			update(func(o *outcome) {
				o.Failed = append(o.Failed, "the page was stopped; the others are dead letters as before")
			})
			return
		default:
		}
		line, err := s.redriveOne(ctx, &list[i])
		if err == nil {
			done++
		}
		update(func(o *outcome) {
			o.Title = fmt.Sprintf("%s of %s published", format.Number(done), format.Number(len(list)))
			switch {
			case err != nil && len(o.Failed) < shownRows:
				o.Failed = append(o.Failed, line+": "+format.Shown(format.Clip(err.Error(), format.Error)))
			case err == nil && len(list) == 1:
				o.Lines = append(o.Lines, line)
			}
		})
	}
	s.dead.Forget()
	update(func(o *outcome) { o.Running = false })
}

func (s *operator) redriveOne(ctx context.Context, d *fleet.DeadLetter) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, redriveEach)
	defer cancel()
	found, err := s.source.Client.DeadLetter(ctx, d.Database, d.Kind, d.Key)
	if err != nil {
		return d.Name(), err
	}
	out, err := client.Redrive(ctx, s.source.Client, found, client.RedriveOptions{})
	if errors.Is(err, client.ErrMayHaveEffect) {
		err = fmt.Errorf("%w, then use runner dead redrive --force", err)
	}
	return format.Shown(d.JobID) + " published as " + format.Shown(out.NewID), err
}
