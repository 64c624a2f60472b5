package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
	"tidegate/internal/embedded"
)

// databaseFlags say which database is meant, without asking the API, which may be down.
type databaseFlags struct {
	database string
	dataDir  string
}

func (d *databaseFlags) bind(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&d.database, "database", "", "the database itself: a SQLite file, or postgres://user:password@host/name (default: that of \"tidegate up\" in --data-dir)")
	f.StringVar(&d.dataDir, "data-dir", "./data", "folder of a \"tidegate up\", which may run or not")
}

// open returns the database.
func (d *databaseFlags) open(cmd *cobra.Command) (string, error) {
	if err := app.FromEnvironment(cmd.Flags()); err != nil {
		return "", usage(cmd, err)
	}
	if d.database != "" {
		return d.database, nil
	}
	ready, err := readReady(d.dataDir)
	if err != nil {
		return "", err
	}
	if _, file := sqliteFile(ready.Database); !file {
		return "", usage(cmd, fmt.Errorf("the platform in --data-dir %s uses %s: name it, with its password, in --database", d.dataDir, ready.Database))
	}
	if ready.Database != "" {
		return ready.Database, nil
	}
	return filepath.Join(d.dataDir, controlFile), nil
}

func backupCommand() *cobra.Command {
	var d databaseFlags
	command := &cobra.Command{
		Use: "backup FILE", Short: "Write the control state to a file, also while the platform runs",
		Long: "Write the control state, as it is at one moment, to a file that only its owner may read: accounts, tokens (hashed), scripts with their\n" +
			"code, versions, deployments, policies, jobs with their credentials, and the audit log. A FILE that is there\n" +
			"already is replaced once the backup is whole; - is standard output. It talks to the database, not to the API.\n" +
			"With --keep, FILE is a folder that is there: the backup gets a name with the time, such as tidegate-20260301T020000Z.backup, and when it\n" +
			"is whole the oldest files of such names are deleted, so that as many as --keep says are left.",
		Example: "  tidegate backup control.backup\n  tidegate backup --keep 14 /var/backups/tidegate\n  tidegate backup --database postgres://tidegate@postgres/tidegate - | age -r KEY > control.backup.age",
		Args:    arguments(1, 1),
	}
	d.bind(command)
	keep := command.Flags().Int("keep", 0, "FILE is a folder: keep this many backups there, and delete older ones; 0 for a FILE of one backup")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		database, err := d.open(cmd)
		if err != nil {
			return err
		}
		if *keep < 0 || *keep > 0 && args[0] == "-" {
			return usage(cmd, fmt.Errorf("--keep is %d, and FILE %q: it is the number of backups in a folder, and FILE is that folder", *keep, args[0]))
		}
		if path, ok := sqliteFile(database); ok {
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("find the database to back up: %w: name it with --database, or the folder of a \"tidegate up\" with --data-dir", err)
			}
		}
		file, info, err := app.BackupKeeping(cmd.Context(), database, args[0], *keep, time.Now())
		if err != nil {
			return err
		}
		if file == "-" {
			return nil // standard output has the backup
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rows of %s, schema %d\n", file, info.Rows, info.Database, info.Schema)
		return err
	}
	return command
}

// sqliteFile is the path of a database that is a file.
func sqliteFile(database string) (string, bool) {
	path := strings.TrimPrefix(database, "sqlite://")
	return path, !strings.Contains(path, "://")
}

func restoreCommand() *cobra.Command {
	var d databaseFlags
	command := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup of the control state into a database",
		Long: "Put a backup into a database, SQLite or PostgreSQL, wherever it was taken, in one transaction. Stop every process that has that database\n" +
			"first, jobs-api and ingest with Logpush, of which it sees only those with a lease; routers may go on, and take what\n" +
			"is restored as the newest. FILE - is standard input. It talks to the database, not to the API.",
		Example: "  tidegate restore control.backup\n  tidegate restore --replace --database postgres://tidegate@postgres/tidegate control.backup\n" +
			"  tidegate restore --data-dir rehearsal --disable-jobs --secrets-key-file secrets-key control.backup",
		Args: arguments(1, 1),
	}
	d.bind(command)
	var opts app.RestoreOptions
	f := command.Flags()
	f.BoolVar(&opts.Replace, "replace", false, "put it in the place of a control state that is there already")
	f.BoolVar(&opts.DisableJobs, "disable-jobs", false, "switch all Logpush jobs off and cancel their replays, so that a copy for a rehearsal delivers nothing; needs the keys for secrets")
	f.StringVar(&opts.KeyFile, "secrets-key-file", "", "with --disable-jobs, file with the keys (default: what the variable TIDEGATE_SECRETS_KEY holds, else secrets-key in --data-dir)")
	command.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.KeyFile != "" && !opts.DisableJobs { // in the environment it may be for others
			return usage(cmd, errors.New("--secrets-key-file needs --disable-jobs: a restore copies what is sealed as it is, and opens nothing else"))
		}
		if args[0] != "-" {
			if _, err := os.Stat(args[0]); err != nil { // before anybody is waited for
				return fmt.Errorf("restore the control state: %w", err)
			}
		}
		database, err := d.open(cmd)
		if err != nil {
			return err
		}
		if path, file := sqliteFile(database); file && filepath.Base(path) == controlFile { // that of a "tidegate up", which must not run
			dir := filepath.Dir(path)
			unlock, lockErr := lockFolder(cmd.Context(), dir, func(holder string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s is in use by %s: waiting up to %s for its end\n", dir, holder, embedded.LockWait)
			})
			if lockErr != nil {
				return lockErr
			}
			defer func() { err = errors.Join(err, unlock()) }()
		}
		opts.KeyFile = cmp.Or(opts.KeyFile, app.DefaultKeyFile(d.dataDir))
		done, err := app.Restore(cmd.Context(), database, args[0], opts)
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), fmt.Sprintf("restored %d rows, as they were at %s; the next snapshot is %d.\nWhat starts on it needs the keys for secrets of that time, which are not in a backup.\n",
			done.Backup.Rows, done.Backup.TakenOn.Format(time.RFC3339), done.Revision))
		return err
	}
	return command
}
