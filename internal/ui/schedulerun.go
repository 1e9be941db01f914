package ui

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
)

// runWord is the form of the word in which the id of a job ends that is published by hand.
var runWord = regexp.MustCompile(`^[a-z2-7]{26}$`)

// scheduled returns the schedule of an address; nil: there is none.
func (s *operator) scheduled(ctx context.Context, r *http.Request) (*fleet.Schedule, error) {
	target, ok := s.target(r)
	if !ok {
		return nil, nil
	}
	all, err := s.schedules.Of(ctx, target.Database)
	if err != nil {
		return nil, fmt.Errorf("read the schedules: %w", err)
	}
	at := slices.IndexFunc(all, func(one fleet.Schedule) bool { return one.Key.String() == target.Schedule })
	if at < 0 {
		return nil, nil
	}
	return &all[at], nil
}

func (s *operator) askRun(ctx context.Context, r *http.Request) (*confirmation, error) {
	one, err := s.scheduled(ctx, r)
	if one == nil || err != nil {
		return nil, err
	}
	name := one.Key.String()
	c := &confirmation{What: "Publish the job of the schedule " + name + " once, now.", Database: one.Key.Database, Back: "/db/" + one.Key.Database}
	word := r.PostFormValue("word") // kept while the form is shown again: its job is published once
	if !runWord.MatchString(word) {
		word = strings.ToLower(rand.Text())
	}
	if _, err := one.Job(word, s.source.Now()); err != nil {
		c.Notes = []string{err.Error()}
		return c, nil
	}
	c.Verb, c.Reason, c.Danger, c.Hidden = "Run now", "Why (optional)", true, map[string]string{"word": word}
	c.Notes = []string{"The schedule's own ticks stay as they are."}
	if one.Pause != nil {
		c.Notes = append(c.Notes, "It is paused "+fleet.PausedBy(one.Pause)+". The job is published all the same.")
	}
	return c, nil
}

func (s *operator) doRun(ctx context.Context, r *http.Request) (*outcome, error) {
	one, err := s.scheduled(ctx, r)
	if err != nil {
		return nil, err
	}
	word := r.PostFormValue("word")
	if one == nil || !runWord.MatchString(word) {
		return nil, fmt.Errorf("there is no such schedule any more, or the form is incomplete: %w", errInput)
	}
	job, err := one.Job(word, s.source.Now())
	if err != nil {
		return nil, err
	}
	name := one.Key.String()
	notes, _, err := s.record(ctx, r, &contract.AuditEntry{
		Action: contract.AuditSchedule, Database: one.Key.Database, Targets: []string{name}, After: map[string]string{"change": "run"},
	})
	if err != nil {
		return nil, err
	}
	err = s.source.UnlessDenied(ctx, "", []string{one.Key.Subject(s.source.Subjects)}, func(ctx context.Context) error {
		_, err := s.source.Client.Submit(ctx, job)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &outcome{
		Title: "The job of " + name + " is published", Lines: append(notes, "Its id is "+job.ID+"."),
		Back: "/db/" + one.Key.Database, Job: "/db/" + one.Key.Database + "/job/" + url.PathEscape(job.ID),
	}, nil
}
