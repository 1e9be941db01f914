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

func (s *operator) target(r *http.Request) (contract.PauseTarget, bool) {
	name := r.PathValue("db")
	return contract.PauseTarget{Database: name}, contract.ValidName(name)
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
	return &confirmation{
		Verb: "Pause " + target.Database, What: "Pause the jobs of " + target.Database + ".", Database: target.Database, Reason: "Why, for everyone who waits", Required: true,
		Notes: []string{"Within a second no runner starts a job of it. Jobs that run finish; the others wait in the stream.", "It lasts until it is resumed."},
		Back:  "/db/" + target.Database, Danger: true,
	}, nil
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
		Action: contract.AuditPause, Database: target.Database, After: map[string]string{"reason": reason, "by": by},
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
	confirmed, missing := s.awaitPause(ctx, target.Database, pause)
	return &outcome{Title: target.Database + " is paused", Lines: append(notes, runnersLine(confirmed, missing)), Back: "/db/" + target.Database}, nil
}

// confirmTimeout is how long the page waits for runners to confirm a pause or its end.
const confirmTimeout = 4 * time.Second

// awaitPause waits until every runner of a database has confirmed a pause, or, without one, its end.
func (s *operator) awaitPause(ctx context.Context, database string, pause *contract.ActivePause) (confirmed, missing []string) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	for {
		heartbeats, err := s.source.Client.DatabaseHeartbeats(ctx, database)
		if err == nil {
			confirmed, missing = nil, nil
			for i := range heartbeats {
				h := &heartbeats[i]
				obeys := pause == nil && len(h.Pauses) == 0
				for _, p := range h.Pauses {
					obeys = obeys || pause != nil && p.Key == pause.Key && p.Revision >= pause.Revision
				}
				if obeys {
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
	c := &confirmation{Verb: "Resume " + target.Database, What: "End the pause of " + target.Database + ".", Database: target.Database, Reason: "Why (optional)", Back: "/db/" + target.Database}
	if pause == nil {
		c.Verb, c.What = "", target.Database+" is not paused."
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
		Action: contract.AuditResume, Database: target.Database, Before: map[string]string{"reason": pause.Reason, "by": pause.By, "revision": strconv.FormatUint(revision, 10)},
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
	confirmed, missing := s.awaitPause(ctx, target.Database, nil)
	return &outcome{Title: target.Database + " is resumed", Lines: append(notes, runnersLine(confirmed, missing)), Back: "/db/" + target.Database}, nil
}
