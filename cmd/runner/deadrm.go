package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

const deadRemoveHelp = `Remove the named dead letters or, with --all, those that match the filters. The stored results of their jobs stay.
"dead redrive" cannot publish removed jobs again.
` + clientHelp

type deadRemoveFlags struct {
	clientFlags
	letterFilter
	all bool
	yes bool
}

func newDeadRemove() *cobra.Command {
	f := &deadRemoveFlags{}
	cmd := &cobra.Command{
		Use:     "rm [LETTER...]",
		Short:   "Remove dead letters",
		Long:    deadRemoveHelp,
		Example: "  runner dead rm shop.transaction.s42_cz1n2hxkq8s1\n  runner dead rm --all --database shop --code undefined_object --yes",
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters that match the filters")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	f.addFilter(cmd)
	f.add(cmd)
	return cmd
}

func (f *deadRemoveFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.checkAll(cmd, args, f.all); err != nil {
		return err
	}
	ctx := cmd.Context()
	s, err := f.connect(ctx, false)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	names, err := letterNames(ctx, cmd, s, &f.letterFilter, args, "removed", f.yes)
	if err != nil {
		return err
	}
	removed := 0
	err = eachLetter(ctx, cmd, names, func(ctx context.Context, name string) error {
		letter, err := findDeadLetter(ctx, s, name)
		if err == nil {
			err = s.DeleteDeadLetter(ctx, letter)
		}
		if err == nil {
			removed++
		}
		return err
	})
	if _, printed := fmt.Fprintf(cmd.OutOrStdout(), "removed %d of %d letters\n", removed, len(names)); err == nil {
		err = printed
	}
	return err
}
