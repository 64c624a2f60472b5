package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// configFlag names the file with settings.
const configFlag = "config"

// ReadSettings gives each flag that the command line left alone its value from the
// environment, or else from the file that --config names. The error names every value
// that cannot be used, also one in the file that something else comes before.
func ReadSettings(f *pflag.FlagSet) error {
	if err := FromEnvironment(f); err != nil {
		return err
	}
	flag := f.Lookup(configFlag)
	if flag == nil || flag.Value.String() == "" {
		return nil
	}
	return readSettingsFile(f, flag.Value.String())
}

// CheckSettings is ReadSettings followed by all that can be known of the values without
// using them: what validate says, and whether the files that they name can be read. It
// returns every fault.
func CheckSettings(f *pflag.FlagSet, validate func() error) []error {
	faults := each(ReadSettings(f))
	unread := len(faults) > 0
	for _, fault := range each(validate()) {
		// Of a flag that nobody has set a rule may complain because its value was not read.
		if !unread || len(places(f, fault)) > 0 {
			faults = append(faults, Located(f, fault))
		}
	}
	return append(faults, filesMissing(f)...)
}

// Setting is the value of a flag.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`  // without passwords
	Source string `json:"source"` // default, flag, a variable, or a file and line
}

// Settings are those of every flag, in the order in which they were bound.
func Settings(f *pflag.FlagSet) []Setting {
	var list []Setting
	visitSettings(f, func(flag *pflag.Flag) {
		list = append(list, Setting{Key: flag.Name, Value: shown(flag.Value.String()), Source: source(flag)})
	})
	return list
}

// WriteExample writes a file with every setting: its default, in a comment, below what
// --help says of it.
func WriteExample(w io.Writer, process string, f *pflag.FlagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Settings of %s, with their defaults. Each key is the name of a flag. What stands on the\n"+
		"# command line, or in a variable such as TIDEGATE_LOG_LEVEL, comes before what stands here.\n", process)
	visitSettings(f, func(flag *pflag.Flag) {
		_, usage := pflag.UnquoteUsage(flag)
		fmt.Fprintf(&b, "\n# %s\n#%s: %s\n", strings.ReplaceAll(usage, "\n", "\n# "), flag.Name, literal(flag))
	})
	_, err := io.WriteString(w, b.String())
	return err
}

// literal is the default of a flag as YAML has it.
func literal(flag *pflag.Flag) string {
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		quoted := slices.Clone(list.GetSlice())
		for i, text := range quoted {
			quoted[i] = fmt.Sprintf("%q", text)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	switch value := flag.Value.String(); {
	case flag.Value.Type() == "duration":
		return shortDuration(value)
	case isNumber(flag.Value.Type()) || flag.Value.Type() == "bool":
		return value
	default:
		return fmt.Sprintf("%q", value) // of ASCII alone: YAML has the same escapes
	}
}

var zeroUnits = regexp.MustCompile(`([hm])0[ms](0s)?$`)

// shortDuration reads 24h for 24h0m0s.
func shortDuration(text string) string { return zeroUnits.ReplaceAllString(text, "$1") }

// visitSettings calls fn for each flag that a file may set.
func visitSettings(f *pflag.FlagSet, fn func(*pflag.Flag)) {
	sorted := f.SortFlags
	f.SortFlags = false
	defer func() { f.SortFlags = sorted }()
	f.VisitAll(func(flag *pflag.Flag) {
		if isSetting(flag) {
			fn(flag)
		}
	})
}

func isSetting(flag *pflag.Flag) bool {
	return !slices.Contains([]string{configFlag, "help", "version"}, flag.Name)
}

// sourceAnnotation of a flag says where its value came from, unless from the command line.
const sourceAnnotation = "tidegate_source"

func setSource(flag *pflag.Flag, source string) {
	if flag.Annotations == nil {
		flag.Annotations = map[string][]string{}
	}
	flag.Annotations[sourceAnnotation] = []string{source}
}

func source(flag *pflag.Flag) string {
	switch from := flag.Annotations[sourceAnnotation]; {
	case len(from) > 0:
		return from[0]
	case flag.Changed:
		return "flag"
	default:
		return "default"
	}
}

var flagNames = regexp.MustCompile(`--([a-z0-9]+(?:-[a-z0-9]+)*)`)

// Located puts before each error where the flags that it names were set, if that is in the
// environment or in a file.
func Located(f *pflag.FlagSet, err error) error {
	faults := each(err)
	for i, fault := range faults {
		if at := places(f, fault); len(at) > 0 {
			faults[i] = fmt.Errorf("%s: %w", strings.Join(at, ", "), fault)
		}
	}
	return errors.Join(faults...)
}

func places(f *pflag.FlagSet, fault error) []string {
	var list []string
	for _, name := range flagNames.FindAllStringSubmatch(fault.Error(), -1) {
		flag := f.Lookup(name[1])
		if flag != nil && len(flag.Annotations[sourceAnnotation]) > 0 && !slices.Contains(list, source(flag)) {
			list = append(list, source(flag))
		}
	}
	return list
}

// each takes joined errors apart.
func each(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var list []error
	for _, one := range joined.Unwrap() {
		list = append(list, each(one)...)
	}
	return list
}

// filesMissing tells of files that flags name and this process cannot read. Those that a start
// makes may be absent.
func filesMissing(f *pflag.FlagSet) []error {
	var faults []error
	visitSettings(f, func(flag *pflag.Flag) {
		if !readsFile(flag.Name) {
			return
		}
		paths := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			paths = list.GetSlice()
		}
		for _, path := range paths {
			if path == "" {
				continue
			}
			if err := readable(path); err != nil && !(errors.Is(err, fs.ErrNotExist) && isMade(flag.Name)) {
				faults = append(faults, Located(f, fmt.Errorf("--%s: %w", flag.Name, err)))
			}
		}
	})
	return faults
}

// isMade reports whether a start makes the file that a flag names, if it is not there.
func isMade(name string) bool { return name == "admin-token-file" || name == "router-token-file" }

// readsFile reports whether a flag names files that are read, by how the flags are called.
func readsFile(name string) bool {
	for _, end := range []string{"-file", "-cert", "-key", "-ca", "-library", "workerd"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder, not a file", path)
	}
	return nil
}

// shown is a value that may be printed: an address in it has no password.
func shown(value string) string {
	if !strings.Contains(value, "://") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil {
		return "(an address that cannot be read)"
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, "xxxxx") // as Redacted has it
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}
