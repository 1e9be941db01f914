package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
)

const callHelp = `Call a named statement of a database's catalog and wait for its stored result.

Parameters are name=value. The command asks a runner for the statement's definition: a value whose schema has the type
string is a text; any other is JSON where it can be read as JSON, else a text. --params gives all of them as one JSON object
instead, and then nothing is asked. The same call under the same --id has one effect.

"ls" lists the statements, "show" the parameters of one.

Exit codes: as of "runner submit".
` + clientHelp

type callFlags struct{ submitFlags }

func newCall() *cobra.Command {
	f := &callFlags{}
	cmd := &cobra.Command{
		Use:     "call DATABASE NAME [key=value...]",
		Short:   "Call a named statement of a catalog",
		Long:    callHelp,
		Example: "  runner call shop pay from=7 to=9 amount=12.50 --id pay-4711\n  runner call shop pay --params '{\"from\": 7, \"to\": 9, \"amount\": \"12.50\"}'",
		Args:    arguments(2, 1000),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().StringVar(&f.params, "params", "", "all parameters as a JSON object")
	f.add(cmd)
	cmd.AddCommand(newCallLs(), newCallShow())
	return cmd
}

func (f *callFlags) run(cmd *cobra.Command, args []string) error {
	f.database, f.kind = args[0], "call."+args[1]
	err := checkCallNames(args[0], args[1])
	if err == nil && f.params != "" && len(args) > 2 {
		err = errors.New("give the parameters either as name=value or by --params")
	}
	if err = errors.Join(err, f.check()); err != nil {
		return usage(err)
	}
	params := json.RawMessage(f.params)
	if len(args) > 2 {
		definition, err := f.definition(cmd.Context(), args[0], args[1])
		if err != nil {
			return fmt.Errorf("the types of the parameters are not known: %w; give them by --params as one JSON object", err)
		}
		if params, err = callParams(definition, args[2:]); err != nil {
			return usage(err)
		}
	}
	var b contract.Body
	if len(params) > 0 {
		if !json.Valid(params) {
			return usage(errors.New(`--params is not JSON; write '{"id": 1}'`))
		}
		b = b.With("params", params)
	}
	job, err := f.submission(f.withOptions(b))
	if err != nil {
		return usage(err)
	}
	return f.submitFlags.run(cmd, job)
}

func checkCallNames(database, name string) error {
	switch {
	case !contract.ValidName(database):
		return errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -")
	case !contract.ValidName(name):
		return errors.New("the statement's name is not 1 to 64 of a-z 0-9 _")
	}
	return nil
}

// definition asks a runner for a statement.
func (f *clientFlags) definition(ctx context.Context, database, name string) (*contract.CallInfo, error) {
	catalog, err := f.catalog(ctx, database)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(catalog.Calls, func(c contract.CallInfo) bool { return c.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("the catalog of %s has no statement %s; runner call ls %s lists them", database, name, database)
	}
	return &catalog.Calls[i], nil
}

func (f *clientFlags) catalog(ctx context.Context, database string) (*client.Catalog, error) {
	ctx, stop := context.WithTimeout(ctx, clientTimeout)
	defer stop()
	s, err := f.connect(ctx, true)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	return client.ReadCatalog(ctx, s.Client, database)
}

// paramsSchema is what this command reads of the schema of a statement's parameters.
type paramsSchema struct {
	Properties map[string]struct {
		Type        any             `json:"type"`
		Description string          `json:"description"`
		Default     json.RawMessage `json:"default"`
	} `json:"properties"`
	Required []string `json:"required"`
}

// callParams makes the parameters of words of the form name=value.
func callParams(definition *contract.CallInfo, words []string) (json.RawMessage, error) {
	var schema paramsSchema
	if err := json.Unmarshal(definition.Schema, &schema); err != nil {
		return nil, fmt.Errorf("read the schema of %s: %w", definition.Name, err)
	}
	var b contract.Body
	for _, word := range slices.Backward(words) {
		name, text, ok := strings.Cut(word, "=")
		property, known := schema.Properties[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("%q is not name=value", word)
		case b.Has(name):
			return nil, fmt.Errorf("the parameter %s is there twice", name)
		case !known:
			return nil, fmt.Errorf("%s has no parameter %s; it has %s", definition.Name, name, strings.Join(slices.Sorted(maps.Keys(schema.Properties)), ", "))
		}
		var value any = text
		if property.Type != "string" && json.Valid([]byte(text)) {
			value = json.RawMessage(text)
		}
		b = b.With(name, value)
	}
	return b.Bytes(), nil
}

type callListFlags struct {
	clientFlags
	json bool
}

func newCallLs() *cobra.Command {
	f := &callListFlags{}
	cmd := &cobra.Command{
		Use:     "ls DATABASE",
		Short:   "List the named statements of a database",
		Long:    "List the named statements of a database's catalog, as one of its runners has it.\n" + clientHelp,
		Example: "  runner call ls shop\n  runner call ls shop --json",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCallNames(args[0], "x"); err != nil {
				return usage(err)
			}
			catalog, err := f.catalog(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), catalog)
			}
			if len(catalog.Calls) == 0 {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s has no catalog\n", args[0])
				return err
			}
			rows := [][]string{{"NAME", "EFFECT", "REVISION", "DESCRIPTION"}}
			for i := range catalog.Calls {
				c := &catalog.Calls[i]
				rows = append(rows, []string{c.Name, string(c.Effect), c.Revision, c.Description})
			}
			return table(cmd.OutOrStdout(), "", rows, styleFor(cmd.OutOrStdout()).bold)
		},
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func newCallShow() *cobra.Command {
	f := &callListFlags{}
	cmd := &cobra.Command{
		Use:     "show DATABASE NAME",
		Short:   "Show a named statement and its parameters",
		Long:    "Show a named statement of a database's catalog: its effect, limits and parameters. The SQL text stays in the runner.\n" + clientHelp,
		Example: "  runner call show shop pay\n  runner call show shop pay --json",
		Args:    arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCallNames(args[0], args[1]); err != nil {
				return usage(err)
			}
			definition, err := f.definition(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), definition)
			}
			return f.show(cmd, definition)
		},
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *callListFlags) show(cmd *cobra.Command, c *contract.CallInfo) error {
	var schema struct {
		Properties map[string]map[string]json.RawMessage `json:"properties"`
		Required   []string                              `json:"required"`
	}
	if err := json.Unmarshal(c.Schema, &schema); err != nil {
		return fmt.Errorf("read the schema of %s: %w", c.Name, err)
	}
	about := [][]string{{"name", c.Name}, {"description", c.Description}, {"effect", string(c.Effect)}, {"revision", c.Revision}, {"timeout", c.Timeout}}
	for _, limit := range []struct {
		name string
		n    int64
	}{{"max_rows", c.MaxRows}, {"max_affected", c.MaxAffected}} {
		if limit.n > 0 {
			about = append(about, []string{limit.name, strconv.FormatInt(limit.n, 10)})
		}
	}
	about = slices.DeleteFunc(about, func(row []string) bool { return row[1] == "" })
	out := cmd.OutOrStdout()
	if err := table(out, "", about); err != nil {
		return err
	}
	rows := [][]string{{"PARAMETER", "DEFAULT", "SCHEMA", "DESCRIPTION"}}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		keys := schema.Properties[name]
		fallback, description := string(keys["default"]), ""
		if slices.Contains(schema.Required, name) {
			fallback = "(required)"
		}
		_ = json.Unmarshal(keys["description"], &description) // a text, or missing
		delete(keys, "default")
		delete(keys, "description")
		var shown contract.Body
		for _, key := range slices.Backward(slices.Sorted(maps.Keys(keys))) {
			shown = shown.With(key, keys[key])
		}
		rows = append(rows, []string{name, fallback, string(shown.Bytes()), description})
	}
	if len(rows) == 1 {
		return nil
	}
	_, _ = fmt.Fprintln(out)
	return table(out, "", rows, styleFor(out).bold)
}
