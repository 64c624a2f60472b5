package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

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

// rotated are the names of backups that BackupKeeping writes, and the only ones that it deletes but for what a
// backup that was killed has left, which has the name of unfinished.
var (
	rotated    = regexp.MustCompile(`^tidegate-\d{8}T\d{6}Z\.backup$`)
	unfinished = regexp.MustCompile(`^\.tidegate-\d{8}T\d{6}Z\.backup-\d+$`)
)

// unfinishedKept is longer than any backup takes.
const unfinishedKept = 24 * time.Hour

// BackupKeeping is Backup into a folder, under a name with the time. Once the backup is whole, the oldest of such
// names are deleted, so that keep are left. Other files are left alone, and so is what a failure finds. With a keep of
// 0 it is Backup, and folder the file.
func BackupKeeping(ctx context.Context, database, folder string, keep int, now time.Time) (file string, info store.BackupInfo, err error) {
	if keep == 0 {
		info, err = Backup(ctx, database, folder)
		return folder, info, err
	}
	name := now.UTC().Format("tidegate-20060102T150405Z.backup")
	file = filepath.Join(folder, name)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return file, info, fmt.Errorf("find the backups that are too old: %w", err)
	}
	// First, because these may be why there is no room.
	if err := removeUnfinished(folder, entries, now); err != nil {
		return file, info, err
	}
	if info, err = Backup(ctx, database, file); err != nil {
		return file, info, err
	}
	var others []string // oldest first: names are sorted
	for _, e := range entries {
		if e.Type().IsRegular() && rotated.MatchString(e.Name()) && e.Name() != name { // a clock that was set back deletes not what was just written
			others = append(others, e.Name())
		}
	}
	var faults []error
	for _, old := range others[:max(0, len(others)-(keep-1))] {
		if err := os.Remove(filepath.Join(folder, old)); !errors.Is(err, fs.ErrNotExist) { // another backup may have done it
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return file, info, fmt.Errorf("delete backups that are too old: %w", err)
	}
	return file, info, nil
}

func removeUnfinished(folder string, entries []fs.DirEntry, now time.Time) error {
	for _, e := range entries {
		if !e.Type().IsRegular() || !unfinished.MatchString(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > unfinishedKept {
			err = os.Remove(filepath.Join(folder, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete what a backup that was killed has left: %w", err)
		}
	}
	return nil
}

// RecoverOperator replaces all operators' tokens of a database by one, which it writes to a file of
// mode 0600, or to standard output ("-").
func RecoverOperator(ctx context.Context, database, file string) (ended []control.Token, err error) {
	write := func(w io.Writer) error {
		ended, err = store.RecoverOperator(ctx, database, func(secret string) error {
			_, err := fmt.Fprintln(w, secret)
			return err
		})
		return err
	}
	if file == "-" {
		err = write(os.Stdout)
	} else {
		err = replaceFileBy(file, nil, write) // whose name it has once the token is in the database
	}
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
