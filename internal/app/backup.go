package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"tidegate/internal/store"
	"tidegate/schema/control"
)

// Backup writes the control state of a database to a file of mode 0600, in one step: after a
// crash there is the old file or the new. Standard output, whose file is "-", gets it
// as it comes.
func Backup(ctx context.Context, database, file string) (info store.BackupInfo, err error) {
	write := func(w io.Writer) error {
		info, err = store.Backup(ctx, database, Version, w)
		return err
	}
	if file == "-" {
		err = write(os.Stdout)
	} else {
		err = replaceFileBy(file, nil, write)
	}
	if err != nil {
		return info, fmt.Errorf("back the control state up to %s: %w", file, err)
	}
	return info, nil
}

// RecoverOperator replaces all operators' tokens of a database by one, which it writes to a file of
// mode 0600, or to standard output ("-").
func RecoverOperator(ctx context.Context, database, file string) (ended []control.Token, err error) {
	ended, err = store.RecoverOperator(ctx, database, func(secret string) error {
		if file == "-" {
			_, err := fmt.Println(secret)
			return err
		}
		return replaceFile(file, []byte(secret+"\n"))
	})
	if err != nil {
		return nil, fmt.Errorf("replace the operator's token: %w", err)
	}
	return ended, nil
}

// RestoreOptions of Restore.
type RestoreOptions struct {
	Replace     bool   // what the database holds
	DisableJobs bool   // of Logpush, for which the keys for secrets are needed
	KeyFile     string // with these; empty for the variable
}

// Restore puts a backup from a file, or from standard input ("-"), into a database; see
// store.Restore.
func Restore(ctx context.Context, database, file string, opts RestoreOptions) (done store.Restored, err error) {
	options := store.RestoreOptions{Replace: opts.Replace, DisableJobs: opts.DisableJobs}
	if opts.DisableJobs {
		if options.Keys, err = ReadKeys(opts.KeyFile); err != nil {
			return done, fmt.Errorf("restore with all jobs disabled: %w", err)
		}
	}
	in := os.Stdin
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return done, fmt.Errorf("restore the control state: %w", err)
		}
		defer func() { err = errors.Join(err, in.Close()) }()
	}
	done, err = store.Restore(ctx, database, in, options)
	if err != nil {
		return done, fmt.Errorf("restore the control state from %s: %w", file, err)
	}
	return done, nil
}
