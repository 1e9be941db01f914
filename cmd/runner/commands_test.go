package main

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// The command line itself: every command has a text and an example, and what is wrong with a line has its exit code.
func TestHelp(t *testing.T) {
	t.Parallel()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.NotEmpty(t, cmd.Long+cmd.Example, cmd.CommandPath())
		if cmd.Runnable() {
			require.NotEmpty(t, cmd.Example, cmd.CommandPath())
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				require.Contains(t, line, "runner ", cmd.CommandPath())
			}
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newRoot())
	require.Equal(t, exitOK, runCommand(t, "", "--help").code)
	require.Contains(t, runCommand(t, "", "--help").out, "runner demo")
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"nosuch",
		"serve --nosuch",
		"serve extra",
		"serve --config /nosuch/file",
		"submit",
		"submit --database shop",
		"submit --database shop --sql x --file y",
		"submit --database a.b --sql x",
		"submit --database shop --sql x --params {",
		"submit --database shop --sql x --id in.valid",
		"submit --database shop --file /nosuch/file",
		"dead show",
		"dead ls --limit 0",
		"dead redrive a.b.c d.e.f --id x",
		"dead redrive",
		"dead redrive a.b.c --all",
		"dead redrive a.b.c --code x",
		"dead redrive --all --since -1h",
		"dead redrive --all --id x",
		"dead rm",
		"dead rm a.b.c --yes",
		"dead ls --newest -1",
		"job shop",
		"job a.b x",
		"job shop in.valid",
		"ledger ddl",
		"ledger ddl --engine oracle",
		"ledger ddl --database nosuch",
	} {
		got := runCommand(t, "", strings.Fields(line)...)
		require.Equal(t, exitUsage, got.code, "%s: %s", line, got.err)
		require.True(t, strings.HasPrefix(got.err, "runner: "), "%s: %s", line, got.err)
	}
}

// A wrong word or number of words is answered with what to write.
func TestUsageErrorsNameTheRemedy(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"migrate stat shop":        `unknown command "stat" for "runner migrate"; did you mean status?`,
		"dead lss":                 `unknown command "lss" for "runner dead"; did you mean ls?`,
		"result shop ins1":         `unknown command "shop" for "runner result"; write one of get`,
		"topology foo":             `unknown command "foo" for "runner topology"; write one of apply, prune, show`,
		"ledger x":                 `unknown command "x" for "runner ledger"; write one of ddl`,
		"job ins1":                 "too few arguments; write runner job DATABASE JOB-ID",
		"result get":               "too few arguments; write runner result get DATABASE JOB-ID",
		"dead show":                "too few arguments; write runner dead show LETTER",
		"diagnose":                 "too few arguments; write runner diagnose DATABASE [--config FILE]",
		"wait":                     "too few arguments; write runner wait DATABASE...",
		"serve extra":              "too many arguments; write runner serve [--config FILE]",
		"dead ls --reason fail":    `--reason "fail" is unknown; write one of rejected, failed, unknown, `,
		"dead rm --all --kind foo": `--kind "foo" is unknown; write one of query, `,
	} {
		got := runCommand(t, "", strings.Fields(line)...)
		require.Equal(t, exitUsage, got.code, line)
		require.Contains(t, got.err, says, line)
	}
	require.Equal(t, exitOK, runCommand(t, "", "dead").code)
	require.Contains(t, runCommand(t, "", "help", "dead", "ls").out, "List dead letters")
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var info versionInfo
	runCommand(t, "", "version", "--json").json(t, &info)
	require.NotEmpty(t, info.Go)
	require.Contains(t, runCommand(t, "", "version").out, info.Go)
}

func TestLedgerDDL(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	got := runCommand(t, "", "ledger", "ddl", "--config", w.config, "--database", "shop")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "dbrunner_ledger")
	require.Equal(t, got, runCommand(t, "", "ledger", "ddl", "--engine", "sqlite"))
	require.Contains(t, runCommand(t, "", "ledger", "ddl", "--engine", "postgres").out, "dbrunner.ledger")
}

// The show as a process: it ends by itself, in order, and all results are as expected.
func TestDemoOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	out, err := command(ctx, t, "demo", "--once").Output()
	require.NoError(t, err, "%s", out)
	for _, text := range []string{
		"dbrunner.jobs.demo.query", "duplicate", `did you mean "sql"?`, "check_violation",
		"version 2, from 1", "dbrunner.health.migration.demo", "All results are as expected",
	} {
		require.Contains(t, string(out), text)
	}
	require.NotContains(t, string(out), "\x1b", "no colours but on a terminal")
}

func TestDemoServes(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "demo")
	p.await("Still serving")
	url := regexp.MustCompile(`nats://127\.0\.0\.1:\d+`).FindString(p.output())
	require.NotEmpty(t, url)

	got := runCommand(t, "", "submit", "--server", url, "--database", "demo", "--sql", "SELECT owner FROM accounts WHERE id = 1")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "Ada")
	got = runCommand(t, `{"action":"down","target":"1"}`, "submit", "--server", url, "--database", "demo", "--kind", "migration", "--file", "-")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "U2__reasons.sql: down done")

	t.Run("publisher", func(t *testing.T) { examplePublisher(t, url) })
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}

// examplePublisher runs the example against a demo: once whole, once left in the middle and resumed.
func examplePublisher(t *testing.T, url string) {
	dir := t.TempDir()
	publisher := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, dir+"/publisher", append([]string{"--server", url}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/publisher", "../../examples/publisher")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	text, err := publisher()
	require.NoError(t, err, text)
	for _, part := range []string{"succeeded", "rejected", "failed", "id,owner,balance\r\n1,Ada,", "100 succeeded"} {
		require.Contains(t, text, part)
	}
	text, err = publisher("--send-only")
	require.NoError(t, err, text)
	text, err = publisher()
	require.Error(t, err, "jobs without an answer are not forgotten")
	require.Contains(t, text, "--resume")
	text, err = publisher("--resume")
	require.NoError(t, err, text)
	require.Contains(t, text, "answers: 100 succeeded")
	text, err = publisher("--resume")
	require.NoError(t, err, text)
	require.Contains(t, text, "0 jobs have no answer yet")
}
