package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tidegate/internal/seal"
	"tidegate/internal/store"
)

// secretsKeyVariable holds the keys themselves. It is no flag: command lines are for
// everybody on a machine to read.
const secretsKeyVariable = "TIDEGATE_SECRETS_KEY"

// secretsKeyName is the file of keys in the data directory of a platform on embedded
// defaults.
const secretsKeyName = "secrets-key"

func (c *Config) validateSecrets() error {
	inVariable := os.Getenv(secretsKeyVariable) != ""
	switch {
	case c.SecretsKeyFile != "" && inVariable:
		return fmt.Errorf("--secrets-key-file and the variable %s are both set: the keys for secrets come from one of them", secretsKeyVariable)
	case c.Database != "" && c.SecretsKeyFile == "" && !inVariable:
		return fmt.Errorf("--secrets-key-file is not set: secrets in the database are sealed with the keys in that file, or in the variable %s. "+
			"Make it once, with `tidegate secrets key --secrets-key-file FILE`, and give it to every process that has the --database", secretsKeyVariable)
	}
	return nil
}

// secretsKeys reads the keys that the configuration names.
func (c *Config) secretsKeys(ctx context.Context, log *slog.Logger) (*seal.Keys, error) {
	info, err := os.Stat(c.SecretsKeyFile)
	if err == nil && info.Mode().Perm()&0o007 != 0 {
		log.WarnContext(ctx, "everybody on this machine can read the keys for secrets: take the right away with chmod o=", "file", c.SecretsKeyFile)
	}
	return ReadKeys(c.SecretsKeyFile)
}

// ReadKeys reads a file of keys, and without one what the variable holds.
func ReadKeys(file string) (*seal.Keys, error) {
	if file == "" {
		keys, err := seal.Parse([]byte(os.Getenv(secretsKeyVariable)))
		if err != nil {
			return nil, fmt.Errorf("read the keys for secrets from the variable %s: %w", secretsKeyVariable, err)
		}
		return keys, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the keys for secrets: there is no file %s: put the one there that the database was made with, or for a new database make one with `tidegate secrets key --secrets-key-file %s`", file, file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys for secrets: %w", err)
	}
	keys, err := seal.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the keys for secrets from %s: %w", file, err)
	}
	return keys, nil
}

// DefaultKeys has "tidegate up" use the keys in its data directory, unless it is told of
// others, and makes them at its first start. A database that has keys already gets no new
// ones: the file is missing.
func (c *Config) DefaultKeys(ctx context.Context, log *slog.Logger) error {
	if !c.NameKeyFile() {
		return nil
	}
	if _, err := os.Stat(c.SecretsKeyFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ids, err := keysOf(ctx, c.Database)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(ids) > 0 {
		return fmt.Errorf("%s is missing, and the secrets in the database are sealed with the keys in it (%s): put it back. If it is lost, so are the secrets: docs/operations/README.md says what to do then",
			c.SecretsKeyFile, strings.Join(ids, ", "))
	}
	if _, err = MakeKeys(c.SecretsKeyFile); err == nil {
		log.InfoContext(ctx, "made a key for the secrets in the database, which is of no use without: keep a copy elsewhere", "file", c.SecretsKeyFile)
	}
	return err
}

// NameKeyFile has it use the default file, unless it is told of other keys.
func (c *Config) NameKeyFile() (named bool) {
	if c.SecretsKeyFile != "" {
		return false
	}
	c.SecretsKeyFile = DefaultKeyFile(c.DataDir)
	return c.SecretsKeyFile != ""
}

// DefaultKeyFile is where a platform on embedded defaults keeps its keys, and empty where
// the variable holds them.
func DefaultKeyFile(dataDir string) string {
	if os.Getenv(secretsKeyVariable) != "" {
		return ""
	}
	return filepath.Join(dataDir, secretsKeyName)
}

func keysOf(ctx context.Context, database string) (ids []string, err error) {
	secrets, err := store.OpenSecrets(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, secrets.Close()) }()
	return secrets.Keys(ctx)
}

// MakeKeys makes a file with one key, which its owner alone may read, and returns the id of
// the key. It leaves a file that is there as it is.
func MakeKeys(file string) (id string, err error) {
	keys, text, err := newKeys()
	if err != nil {
		return "", err
	}
	err = createFile(file, text)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s is there already, and without its keys nobody can read what they have sealed: `tidegate secrets add` and `rotate` add keys to it", file)
	}
	if err != nil {
		return "", fmt.Errorf("make a key for secrets: %w", err)
	}
	return keys.Primary(), nil
}

// PrintKeys returns what a file with one key would hold, for the variable.
func PrintKeys() (text string, err error) {
	_, b, err := newKeys()
	return string(b), err
}

func newKeys() (keys *seal.Keys, text []byte, err error) {
	if keys, err = seal.New(); err != nil {
		return nil, nil, err
	}
	text, err = keys.Text()
	return keys, text, err
}

// createFile is replaceFile for a file that is not there yet.
func createFile(path string, content []byte) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	whole := filepath.Join(dir, filepath.Base(path))
	if err := replaceFile(whole, content); err != nil {
		return err
	}
	if err := os.Link(whole, path); err != nil { // which refuses a name that is taken
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// AddKey adds a key to a file, which does not seal yet, and returns its id.
func AddKey(file string) (id string, err error) {
	keys, err := changeKeys(file, (*seal.Keys).Added)
	if err != nil {
		return "", err
	}
	ids := keys.IDs()
	return ids[len(ids)-1], nil
}

// RotateKeys makes the newest key of a file the primary one, and returns its id. If it is that
// already, a new one is made, but only for a process that is alone on its database: others
// could not read what a key seals that they never got.
func RotateKeys(file string, alone bool) (id string, err error) {
	keys, err := changeKeys(file, func(k *seal.Keys) (*seal.Keys, error) {
		if ids := k.IDs(); ids[len(ids)-1] == k.Primary() {
			if !alone {
				return nil, fmt.Errorf("%s has no key that is newer than the primary one: `tidegate secrets add` makes it; give the file to every process with the database and restart it, then rotate", file)
			}
			var err error
			if k, err = k.Added(); err != nil {
				return nil, err
			}
		}
		return k.Promoted()
	})
	return keys.Primary(), err
}

// changeKeys replaces a file of keys in one step. Its owner, group and mode stay: the processes
// that read it are of other users than whoever calls this.
func changeKeys(file string, change func(*seal.Keys) (*seal.Keys, error)) (*seal.Keys, error) {
	if file == "" {
		return nil, fmt.Errorf("the keys are in the variable %s, which cannot be changed from here: write them to a file, name it with --secrets-key-file and take the variable away, then set the variable to what the file has", secretsKeyVariable)
	}
	keys, err := ReadKeys(file)
	if err != nil {
		return nil, err
	}
	if keys, err = change(keys); err != nil {
		return nil, err
	}
	text, err := keys.Text()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err == nil {
		err = replaceFileBy(file, info, func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("write the keys for secrets: %w", err)
	}
	return keys, nil
}

// RetireKeys takes all keys but the primary one out of a file, and off the list of those that
// processes on the database must have. It refuses while the database has anything that one of
// them has sealed. It returns their ids.
func RetireKeys(ctx context.Context, file, database string) (ids []string, err error) {
	keys, err := ReadKeys(file)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(keys.IDs(), func(id string) bool { return id == keys.Primary() })
	if len(ids) == 0 {
		return nil, nil
	}
	secrets, err := store.OpenSecrets(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, secrets.Close()) }()
	// The file changes last: what fails before that is repeated.
	if err := secrets.Forget(ctx, ids...); err != nil {
		return nil, err
	}
	_, err = changeKeys(file, (*seal.Keys).Retired)
	return ids, err
}

// KeyStatus is what there is of one key.
type KeyStatus struct {
	ID      string              `json:"id"` // empty: what is in clear text
	Primary bool                `json:"primary"`
	InFile  bool                `json:"in_file"`
	Values  int64               `json:"values"` // that it has sealed
	Columns []store.SecretCount `json:"columns"`
}

// SecretsStatus returns the keys of a file, and of a database, with what each has sealed there.
func SecretsStatus(ctx context.Context, file, database string) (list []KeyStatus, err error) {
	keys, err := ReadKeys(file)
	if err != nil {
		return nil, err
	}
	secrets, err := store.OpenSecrets(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, secrets.Close()) }()
	ids, err := secrets.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var counts []store.SecretCount
	if len(ids) > 0 { // an older release's tables have other columns
		if counts, err = secrets.Counts(ctx); err != nil {
			return nil, err
		}
	}
	status := func(id string) *KeyStatus {
		i := slices.IndexFunc(list, func(k KeyStatus) bool { return k.ID == id })
		if i < 0 {
			i = len(list)
			list = append(list, KeyStatus{ID: id, Primary: id == keys.Primary(), InFile: keys.Has(id), Columns: []store.SecretCount{}})
		}
		return &list[i]
	}
	for _, id := range append(keys.IDs(), ids...) {
		status(id)
	}
	for _, c := range counts {
		k := status(c.Key)
		k.Values += c.Values
		k.Columns = append(k.Columns, c)
	}
	return list, nil
}
