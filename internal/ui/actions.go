package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/format"
)

// action is something that an operator does: first a form that names what it is about, then the act itself.
type action struct {
	// ask makes the form; nil: there is nothing to act on.
	ask func(context.Context, *http.Request) (*confirmation, error)
	// do acts, and returns what came out of it.
	do func(context.Context, *http.Request) (*outcome, error)
}

// confirmation is what a person confirms.
type confirmation struct {
	Verb     string // on the button
	What     string // in one sentence
	Database string
	Notes    []string
	Danger   bool
	Reason   string // label of the text that is asked for; empty: none is
	Required bool
	Count    int // that has to be typed; 0: nothing has
	Hidden   map[string]string
	Path     string
	Back     string
	Problem  string
}

// outcome is what came out of an action.
type outcome struct {
	Title   string
	Lines   []string
	Failed  []string
	Back    string
	Job     string // address of the job that was published; empty: none
	Running bool   // it goes on
	At      time.Time
	begin   func(id string) // starts what goes on; nil: it is done
}

// outcomes are those of the last actions, so that loading a page again does not act again.
type outcomes struct {
	mu   sync.Mutex
	ids  []string
	byID map[string]*outcome
}

const outcomesKept = 100

func (o *outcomes) add(done *outcome) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := rand.Text()
	if o.byID == nil {
		o.byID = map[string]*outcome{}
	}
	done.At = time.Now()
	o.byID[id], o.ids = done, append(o.ids, id)
	if len(o.ids) > outcomesKept {
		delete(o.byID, o.ids[0])
		o.ids = o.ids[1:]
	}
	return id
}

// get returns a copy; nil: there is none.
func (o *outcomes) get(id string) *outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := o.byID[id]
	if found == nil {
		return nil
	}
	out := *found
	out.Lines, out.Failed = append([]string(nil), found.Lines...), append([]string(nil), found.Failed...)
	return &out
}

// update changes an outcome under way.
func (o *outcomes) update(id string, change func(*outcome)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if found := o.byID[id]; found != nil {
		change(found)
	}
}

func (s *Server) outcomePage(r *http.Request) *page {
	id := r.PathValue("id")
	if s.outcomes.get(id) == nil {
		return nil
	}
	return &page{Title: "Done", Heading: "Done", Screen: "outcome", Panels: []panel{{
		ID: "outcome", Key: "outcome " + id, Block: "outcome", Local: true, Load: func(context.Context) (any, error) { return s.outcomes.get(id), nil },
	}}}
}

// allActions are the actions that the page offers, by path. Without write none is.
func (s *operator) allActions() map[string]action {
	if !s.opts.Write {
		return nil
	}
	return map[string]action{
		"/db/{db}/pause":                      {s.askPause, s.doPause},
		"/db/{db}/resume":                     {s.askResume, s.doResume},
		"/db/{db}/queue/{queue}/pause":        {s.askPause, s.doPause},
		"/db/{db}/queue/{queue}/resume":       {s.askResume, s.doResume},
		"/db/{db}/schedule/{schedule}/pause":  {s.askPause, s.doPause},
		"/db/{db}/schedule/{schedule}/resume": {s.askResume, s.doResume},
		"/db/{db}/schedule/{schedule}/run":    {s.askRun, s.doRun},
		"/db/{db}/job/{id}/cancel":            {s.askCancel, s.doCancel},
		"/dead/redrive":                       {s.askRedrive, s.doRedrive},
	}
}

// confirm answers with the form of an action.
func (s *operator) confirm(a action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.form(w, r, a, "", http.StatusOK) }
}

func (s *operator) form(w http.ResponseWriter, r *http.Request, a action, problem string, status int) {
	ctx, cancel := context.WithTimeout(r.Context(), panelTimeout)
	defer cancel()
	c, err := a.ask(ctx, r)
	if c == nil && err == nil {
		s.notFound(w, r)
		return
	}
	if c != nil {
		c.Path, c.Problem = r.URL.Path, problem
	}
	s.write(r.Context(), w, r, &page{Title: "Confirm", Heading: "Confirm", Static: true, Panels: []panel{{
		ID: "confirm", Key: "confirm " + rand.Text(), Block: "confirm", Local: true, Load: func(context.Context) (any, error) { return c, err },
	}}}, status)
}

// actionTimeout bounds an action, its audit entry included.
const actionTimeout = 10 * time.Second

// perform acts, and leads to the outcome.
func (s *operator) perform(a action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if up, _ := s.source.Connected(); !up {
			s.form(w, r, a, "The connection to NATS is lost. Nothing was done.", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actionTimeout) // a tab that is closed does not stop it halfway
		defer cancel()
		done, err := a.do(ctx, r)
		s.fleet.Forget()
		s.cells.clear()
		if err != nil {
			s.form(w, r, a, actionProblem(err), http.StatusConflict)
			return
		}
		id := s.outcomes.add(done)
		if done.begin != nil {
			done.begin(id)
		}
		http.Redirect(w, r, "/outcome/"+id, http.StatusSeeOther)
	}
}

// errInput is an error of what was typed.
var errInput = errors.New("nothing was done")

// actionProblem explains why nothing was done.
func actionProblem(err error) string {
	var denied *fleet.DeniedError
	switch {
	case errors.As(err, &denied):
		return "Nothing was done: NATS does not permit this user to publish " + denied.Subject + "."
	case errors.Is(err, client.ErrAuditFull):
		return "Nothing was done, because it could not be recorded: the audit stream is full. Raise topology.audit.max_bytes and run runner topology apply."
	case errors.Is(err, client.ErrDenied):
		return "Nothing was done: NATS does not permit this. " + format.Shown(format.Clip(err.Error(), format.Error)) + "."
	case errors.Is(err, context.DeadlineExceeded):
		return "No answer in time. It is not known whether it was done: look before you try again."
	}
	text := format.Shown(format.Clip(err.Error(), format.Error))
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// who is who acts.
func (s *operator) who(r *http.Request) (string, error) {
	if s.opts.UserHeader == "" {
		return s.opts.By, nil
	}
	names := r.Header.Values(s.opts.UserHeader)
	if len(names) != 1 || strings.TrimSpace(names[0]) == "" { // two: a client's, and the proxy's
		return "", fmt.Errorf("the proxy does not name one user in the header %s: %w", s.opts.UserHeader, errInput)
	}
	return strings.TrimSpace(names[0]), nil
}

// record writes the audit entry before an action. A missing stream is a note.
func (s *operator) record(ctx context.Context, r *http.Request, e *contract.AuditEntry) (notes []string, by string, err error) {
	if by, err = s.who(r); err != nil || s.opts.NoAudit {
		return nil, by, err
	}
	e.By, e.Tool, e.Reason = by, "runner ui", strings.TrimSpace(r.PostFormValue("why"))
	err = s.source.UnlessDenied(ctx, "", []string{s.source.Subjects.Audit(e.Database, e.Action)}, func(ctx context.Context) error {
		return client.WriteAudit(ctx, s.source.Client, e)
	})
	if errors.Is(err, client.ErrNoAudit) {
		return []string{"Not recorded: the audit stream " + s.source.Subjects.AuditStream() + " is missing; runner topology apply creates it."}, by, nil
	}
	return nil, by, err
}

func (s *operator) askCancel(_ context.Context, r *http.Request) (*confirmation, error) {
	database, id := r.PathValue("db"), r.PathValue("id")
	if !contract.ValidName(database) || !contract.ValidResultID(id) {
		return nil, nil
	}
	return &confirmation{
		Verb: "Cancel " + id, What: "Cancel the job " + id + " of " + database + ".", Database: database, Reason: "Why (optional)", Danger: true,
		Notes: []string{"A job that changes its database is reported as cancelled only when that is certain."}, Back: "/db/" + database + "/job/" + url.PathEscape(id),
	}, nil
}

// cancelWait is how long a runner may take to cancel a job before the page answers.
const cancelWait = 2 * time.Second

func (s *operator) doCancel(ctx context.Context, r *http.Request) (*outcome, error) {
	database, id := r.PathValue("db"), r.PathValue("id")
	if !contract.ValidName(database) || !contract.ValidResultID(id) {
		return nil, errInput
	}
	notes, by, err := s.record(ctx, r, &contract.AuditEntry{Action: contract.AuditCancel, Database: database, Targets: []string{id}})
	if err != nil {
		return nil, err
	}
	var answer *contract.CancelAnswer
	err = s.source.UnlessDenied(ctx, "", []string{s.source.Subjects.API("cancel." + database + "." + id)}, func(ctx context.Context) (err error) {
		answer, err = s.source.Client.Cancel(ctx, database, id, client.CancelOptions{By: by, Wait: cancelWait})
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &outcome{Back: "/db/" + database + "/job/" + url.PathEscape(id), Lines: notes}
	switch answer.Outcome {
	case contract.CancelDone:
		out.Title = id + " is cancelled"
	case contract.CancelTooLate:
		out.Title = id + " had already finished: " + string(answer.Status)
	default:
		out.Title = "The request is kept"
		out.Lines = append(out.Lines, "No runner knows the job yet. The request applies when a runner receives a job with this id that was published before it.")
	}
	return out, nil
}
