package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
)

// sealing says where the keys for secrets are and what they have sealed. These commands
// work on files of this machine: no API gives away keys.
type sealing struct {
	keyFile, database, dataDir string
	// alone on its database is a platform on embedded defaults, whose file no flag names.
	alone bool
}

// secretsCommand makes and replaces the keys that secrets in the database are sealed with.
func secretsCommand() *cobra.Command {
	s := &sealing{}
	command := group("secrets", "Make and replace the keys that secrets in the database are sealed with",
		s.key(), s.add(), s.rotate(), s.retire(), s.status())
	flags := command.PersistentFlags()
	flags.StringVar(&s.keyFile, "secrets-key-file", "", "file with the keys (default: what the variable TIDEGATE_SECRETS_KEY holds, else secrets-key in --data-dir)")
	flags.StringVar(&s.dataDir, "data-dir", "./data", "folder of a \"tidegate up\" on embedded defaults")
	return command
}

// withDatabase adds the flag of commands that look into the database.
func (s *sealing) withDatabase(flags *pflag.FlagSet) {
	flags.StringVar(&s.database, "database", "", "control state: a SQLite file, or postgres://user:password@host/name (default: control.db in --data-dir)")
}

// open fills in what the command line left open.
func (s *sealing) open(cmd *cobra.Command) error {
	if err := app.FromEnvironment(cmd.Flags()); err != nil {
		return usage(cmd, err)
	}
	s.alone = s.keyFile == ""
	s.keyFile = cmp.Or(s.keyFile, app.DefaultKeyFile(s.dataDir))
	s.database = cmp.Or(s.database, defaultDatabase(s.dataDir))
	return nil
}

// run is the command of a function that says what it did.
func (s *sealing) run(do func(cmd *cobra.Command) (said string, err error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := s.open(cmd); err != nil {
			return err
		}
		said, err := do(cmd)
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), said)
		return err
	}
}

func (s *sealing) key() *cobra.Command {
	toPrint := false
	command := &cobra.Command{
		Use: "key", Short: "Make a file with a key, for a new database", Args: arguments(0, 0),
		Example: "  tidegate secrets key --secrets-key-file /etc/tidegate/secrets-key",
		RunE: s.run(func(*cobra.Command) (string, error) {
			if toPrint {
				return app.PrintKeys()
			}
			id, err := app.MakeKeys(s.keyFile)
			return fmt.Sprintf("Made the key %s in %s. Keep a copy where no backup of the database is: without it nobody can read what it seals.\n", id, s.keyFile), err
		}),
	}
	command.Flags().BoolVar(&toPrint, "print", false, "print what the file would hold, for the variable TIDEGATE_SECRETS_KEY")
	return command
}

func (s *sealing) add() *cobra.Command {
	return &cobra.Command{
		Use: "add", Short: "Add a key to the file, to be rotated to when every process has it", Args: arguments(0, 0),
		RunE: s.run(func(*cobra.Command) (string, error) {
			id, err := app.AddKey(s.keyFile)
			return fmt.Sprintf("Added the key %s, which does not seal yet. Give the file to every process with the database and restart it; then `tidegate secrets rotate`.\n", id), err
		}),
	}
}

func (s *sealing) rotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Have the newest key of the file seal; in --data-dir a new one if it does already", Args: arguments(0, 0),
		RunE: s.run(func(*cobra.Command) (string, error) {
			id, err := app.RotateKeys(s.keyFile, s.alone)
			return fmt.Sprintf("The key %s is the primary one. A process that starts with the file seals everything in the database anew.\n", id), err
		}),
	}
}

func (s *sealing) retire() *cobra.Command {
	command := &cobra.Command{
		Use: "retire", Short: "Take the keys out of the file that nothing in the database is sealed with any more", Args: arguments(0, 0),
		RunE: s.run(func(cmd *cobra.Command) (string, error) {
			ids, err := app.RetireKeys(cmd.Context(), s.keyFile, s.database)
			if len(ids) == 0 {
				return fmt.Sprintf("%s has the primary key alone.\n", s.keyFile), err
			}
			return fmt.Sprintf("Took out %s. Copies of the database from before the rotation need it still.\n", strings.Join(ids, ", ")), err
		}),
	}
	s.withDatabase(command.Flags())
	return command
}

func (s *sealing) status() *cobra.Command {
	asJSON := false
	command := &cobra.Command{
		Use: "status", Short: "Show the keys, and how much in the database each has sealed", Args: arguments(0, 0),
		RunE: s.run(func(cmd *cobra.Command) (string, error) {
			list, err := app.SecretsStatus(cmd.Context(), s.keyFile, s.database)
			if err != nil {
				return "", err
			}
			if asJSON {
				text, err := json.MarshalIndent(list, "", "  ")
				return string(text) + "\n", err
			}
			rows := [][]string{{"KEY", "PRIMARY", "IN FILE", "VALUES"}}
			for _, k := range list {
				rows = append(rows, []string{cmp.Or(k.ID, "(clear text)"), yesNo(k.Primary), yesNo(k.InFile), fmt.Sprint(k.Values)})
			}
			return aligned(rows), nil
		}),
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the columns")
	s.withDatabase(command.Flags())
	return command
}
