package main

import (
	"context"
	"dbrunner/client"
	"fmt"

	"github.com/spf13/cobra"
)

const deadRemoveHelp = `Remove the named dead letters or, with --all, those that match the filters. The stored results of their jobs stay.
"dead redrive" cannot publish removed jobs again.
` + clientHelp

func newDeadRemove() *cobra.Command {
	f := &lettersFlags{}
	cmd := &cobra.Command{
		Use:     "rm [LETTER...]",
		Short:   "Remove dead letters",
		Long:    deadRemoveHelp,
		Example: "  runner dead rm shop.transaction.s42_cz1n2hxkq8s1\n  runner dead rm --all --database shop --code undefined_object --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, names, err := f.open(cmd, args, "removed")
			if err != nil {
				return err
			}
			defer s.close(cmd.Context())
			removed := 0
			err = eachLetter(cmd, s, names, func(ctx context.Context, letter *client.DeadLetter) error {
				err := s.DeleteDeadLetter(ctx, letter)
				if err == nil {
					removed++
				}
				return err
			})
			if _, printed := fmt.Fprintf(cmd.OutOrStdout(), "removed %d of %d letters\n", removed, len(names)); err == nil {
				err = printed
			}
			return err
		},
	}
	f.add(cmd)
	return cmd
}
