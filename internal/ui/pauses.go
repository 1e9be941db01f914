package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
)

// target is what an address names: a database, one of its queues, or one of its schedules.
func (s *operator) target(r *http.Request) (contract.PauseTarget, bool) {
	t := contract.PauseTarget{Database: r.PathValue("db"), Queue: r.PathValue("queue"), Schedule: r.PathValue("schedule")}
	if t.Queue != "" && !contract.ValidQueue(t.Queue) {
		return t, false
	}
	if t.Schedule != "" {
		key, err := contract.ParseScheduleKey(t.Schedule)
		return t, err == nil && key.Database == t.Database
	}
	return t, contract.ValidName(t.Database)
}

// nameOf is how forms and outcomes call a target.
func nameOf(t contract.PauseTarget) string {
	switch {
	case t.Schedule != "":
		return "schedule " + t.Schedule
	case t.Queue != "":
		return "queue " + t.Queue + " of " + t.Database
	}
	return t.Database
}

// targetsOf are the targets of an audit entry, as runner pause writes them; none: it is the database.
func targetsOf(t contract.PauseTarget) []string {
	switch {
	case t.Schedule != "":
		return []string{t.Schedule}
	case t.Queue != "":
		return []string{"queue " + t.Queue}
	}
	return nil
}

// pauseSubject is where the record of a pause is published.
func (s *operator) pauseSubject(target contract.PauseTarget) string {
	return "$KV." + s.source.Subjects.StateBucket() + "." + contract.PauseKey(target)
}

func (s *operator) askPause(_ context.Context, r *http.Request) (*confirmation, error) {
	target, ok := s.target(r)
	if !ok {
		return nil, nil
	}
	c := &confirmation{
		Verb: "Pause " + nameOf(target), What: "Pause the " + nameOf(target) + ".", Database: target.Database, Reason: "Why, for everyone who waits", Required: true,
		Notes: []string{"Within a second no runner starts a job of it. Jobs that run finish; the others wait in the stream.", "It lasts until it is resumed."},
		Back:  "/db/" + target.Database, Danger: true,
	}
	switch {
	case target.Schedule != "":
		c.Notes[0] = "Its ticks are counted as skipped. Jobs that it has published go on."
	case target.Queue == "":
		c.What = "Pause the jobs of " + target.Database + "."
	}
	return c, nil
}

func (s *operator) doPause(ctx context.Context, r *http.Request) (*outcome, error) {
	target, ok := s.target(r)
	reason := strings.TrimSpace(r.PostFormValue("why"))
	if !ok || reason == "" {
		return nil, fmt.Errorf("a reason is needed: %w", errInput)
	}
	by, err := s.who(r)
	if err != nil {
		return nil, err
	}
	if _, err := contract.EncodePause(contract.Pause{Reason: reason, By: by}); err != nil {
		return nil, err
	}
	notes, by, err := s.record(ctx, r, &contract.AuditEntry{
		Action: contract.AuditPause, Database: target.Database, Targets: targetsOf(target), After: map[string]string{"reason": reason, "by": by},
	})
	if err != nil {
		return nil, err
	}
	var pause *contract.ActivePause
	err = s.source.UnlessDenied(ctx, "", []string{s.pauseSubject(target)}, func(ctx context.Context) (err error) {
		pause, err = client.CreatePause(ctx, s.source.Client, target, contract.Pause{Reason: reason, By: by})
		return err
	})
	if errors.Is(err, client.ErrPauseChanged) {
		return nil, errors.New("it is paused already, by another operator; nothing was changed")
	}
	if err != nil {
		return nil, err
	}
	confirmed, missing := s.awaitPause(ctx, target, pause)
	return &outcome{Title: nameOf(target) + " is paused", Lines: append(notes, runnersLine(confirmed, missing)), Back: "/db/" + target.Database}, nil
}

// confirmTimeout is how long the page waits for runners to confirm a pause or its end.
const confirmTimeout = 4 * time.Second

// awaitPause waits until every runner of the database has confirmed a target's pause, or, without one, its end.
func (s *operator) awaitPause(ctx context.Context, target contract.PauseTarget, pause *contract.ActivePause) (confirmed, missing []string) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	for {
		heartbeats, err := s.source.Client.DatabaseHeartbeats(ctx, target.Database)
		if err == nil {
			confirmed, missing = nil, nil
			for i := range heartbeats {
				h := &heartbeats[i]
				at := slices.IndexFunc(h.Pauses, func(p contract.ActivePause) bool { return p.Key == contract.PauseKey(target) })
				if pause == nil && at < 0 || pause != nil && at >= 0 && h.Pauses[at].Revision >= pause.Revision {
					confirmed = append(confirmed, h.Instance)
				} else {
					missing = append(missing, h.Instance)
				}
			}
			slices.Sort(confirmed)
			slices.Sort(missing)
			if len(missing) == 0 {
				return confirmed, nil
			}
		}
		select {
		case <-ctx.Done():
			return confirmed, missing
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func runnersLine(confirmed, missing []string) string {
	switch {
	case len(missing) > 0:
		return "Not confirmed yet by " + strings.Join(missing, ", ") + "."
	case len(confirmed) == 0:
		return "No runner of the database sends heartbeats; those that start obey."
	}
	return "Confirmed by " + strings.Join(confirmed, ", ") + "."
}

func (s *operator) askResume(ctx context.Context, r *http.Request) (*confirmation, error) {
	target, ok := s.target(r)
	if !ok {
		return nil, nil
	}
	pause, err := client.ReadPause(ctx, s.source.Client, target)
	if err != nil {
		return nil, err
	}
	c := &confirmation{Verb: "Resume " + nameOf(target), What: "End the pause of " + nameOf(target) + ".", Database: target.Database, Reason: "Why (optional)", Back: "/db/" + target.Database}
	if pause == nil {
		c.Verb, c.What = "", nameOf(target)+" is not paused."
		return c, nil
	}
	c.Notes = []string{"Paused by " + firstText(pause.By, "an operator") + ": " + firstText(pause.Reason, "no reason given")}
	c.Hidden = map[string]string{"revision": strconv.FormatUint(pause.Revision, 10)}
	return c, nil
}

func (s *operator) doResume(ctx context.Context, r *http.Request) (*outcome, error) {
	target, ok := s.target(r)
	revision, err := strconv.ParseUint(r.PostFormValue("revision"), 10, 64)
	if !ok || err != nil || revision == 0 {
		return nil, fmt.Errorf("the form has no pause: %w", errInput)
	}
	pause, err := client.ReadPause(ctx, s.source.Client, target)
	switch {
	case err != nil:
		return nil, err
	case pause == nil || pause.Revision != revision:
		return nil, fmt.Errorf("the pause is not the one that was shown; look again: %w", errInput)
	}
	notes, _, err := s.record(ctx, r, &contract.AuditEntry{
		Action: contract.AuditResume, Database: target.Database, Targets: targetsOf(target), Before: map[string]string{"reason": pause.Reason, "by": pause.By, "revision": strconv.FormatUint(revision, 10)},
	})
	if err != nil {
		return nil, err
	}
	err = s.source.UnlessDenied(ctx, "", []string{s.pauseSubject(target)}, func(ctx context.Context) error {
		return client.EndPause(ctx, s.source.Client, target, pause)
	})
	if err != nil {
		return nil, err
	}
	confirmed, missing := s.awaitPause(ctx, target, nil)
	return &outcome{Title: nameOf(target) + " is resumed", Lines: append(notes, runnersLine(confirmed, missing)), Back: "/db/" + target.Database}, nil
}
