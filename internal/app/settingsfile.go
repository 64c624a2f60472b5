package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"
)

// settingsBytesMax is far above what a file with every setting has.
const settingsBytesMax = 1 << 20

// settingsFile is one that is being read into flags.
type settingsFile struct {
	path   string
	flags  *pflag.FlagSet
	lines  map[string]int // of the keys so far
	faults []error
}

// readSettingsFile sets the flags that nothing has set yet. It reads on after a fault, and
// returns all of them; then some flags may be set and others not.
func readSettingsFile(f *pflag.FlagSet, path string) error {
	root, err := parseSettings(path)
	if err != nil || root == nil {
		return err
	}
	s := settingsFile{path: path, flags: f, lines: map[string]int{}}
	if root.Kind != yaml.MappingNode {
		s.fault(root, "a file with settings has lines such as \"log-level: debug\"")
		return errors.Join(s.faults...)
	}
	for i := 0; i < len(root.Content); i += 2 {
		s.set(root.Content[i], root.Content[i+1])
	}
	return errors.Join(s.faults...)
}

// parseSettings returns nil for a file without any.
func parseSettings(path string) (*yaml.Node, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the settings of --config: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, settingsBytesMax+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read the settings of --config: %w", err)
	}
	if len(text) > settingsBytesMax {
		return nil, fmt.Errorf("read the settings of --config: %s has more than %d bytes, which no file with settings needs", path, settingsBytesMax)
	}
	loader, err := yaml.NewLoader(strings.NewReader(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read the settings of --config: %w", err)
	}
	var document, second yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, notYAML(path, err)
	}
	switch err := loader.Load(&second); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: a second document begins: a file with settings has one", path, second.Line)
	case !errors.Is(err, io.EOF):
		return nil, notYAML(path, err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) == 0 || document.Content[0].ShortTag() == "!!null" {
		return nil, nil
	}
	return document.Content[0], nil
}

func notYAML(path string, err error) error {
	if at, ok := errors.AsType[*yaml.LoadError](err); ok && at.Mark.Line > 0 {
		return fmt.Errorf("%s:%d: it is not YAML: %s", path, at.Mark.Line, at.Message)
	}
	return fmt.Errorf("%s: it is not YAML: %w", path, err)
}

func (s *settingsFile) fault(at *yaml.Node, format string, args ...any) {
	s.faults = append(s.faults, fmt.Errorf("%s:%d: %w", s.path, at.Line, fmt.Errorf(format, args...)))
}

// set gives a flag the value of its key, or notes why not.
func (s *settingsFile) set(key, value *yaml.Node) {
	if key.Kind != yaml.ScalarNode {
		s.fault(key, "a key must be the name of a flag")
		return
	}
	flag := s.flags.Lookup(key.Value)
	if flag == nil || !isSetting(flag) {
		s.fault(key, "unknown key %q: %s", key.Value, s.advice(key.Value, value))
		return
	}
	if first, again := s.lines[key.Value]; again {
		s.fault(key, "key %q is given twice: first in line %d", key.Value, first)
		return
	}
	s.lines[key.Value] = key.Line
	for value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	texts, err := s.texts(flag, value)
	if err == nil {
		err = assign(flag, texts, flag.Changed)
	}
	if err != nil {
		s.fault(key, "key %q%s: %w", key.Value, given(value), err)
		return
	}
	if !flag.Changed {
		flag.Changed = true
		setSource(flag, fmt.Sprintf("%s:%d", s.path, key.Line))
	}
}

// assign sets a flag; with check it takes the value back, because another one holds.
func assign(flag *pflag.Flag, texts []string, check bool) error {
	list, isList := flag.Value.(pflag.SliceValue)
	if isList {
		before := list.GetSlice()
		err := list.Replace(texts)
		if check || err != nil {
			err = errors.Join(err, list.Replace(before))
		}
		return err
	}
	before := flag.Value.String()
	err := flag.Value.Set(texts[0])
	if check {
		err = errors.Join(err, flag.Value.Set(before))
	}
	return err
}

// texts are what a flag's value is set from: one, or any number for a list.
func (s *settingsFile) texts(flag *pflag.Flag, value *yaml.Node) ([]string, error) {
	_, isList := flag.Value.(pflag.SliceValue)
	switch {
	case value.ShortTag() == "!!null":
		return nil, errors.New("it has no value: leave the key out to have the default")
	case value.Kind == yaml.MappingNode:
		return nil, errors.New(s.grouped(flag.Name, value))
	case isList != (value.Kind == yaml.SequenceNode):
		if isList {
			return nil, errors.New("it must be a list, such as [a, b]")
		}
		return nil, errors.New("it must be one value, not a list")
	case !isList:
		return []string{value.Value}, fits(flag.Value.Type(), value)
	}
	var texts []string
	for _, element := range value.Content {
		if element.Kind != yaml.ScalarNode || element.ShortTag() != "!!str" {
			return nil, fmt.Errorf("the element in line %d must be text: put it in quotes", element.Line)
		}
		texts = append(texts, element.Value)
	}
	return texts, nil
}

// grouped refuses values below a key, as files of other programs have them.
func (s *settingsFile) grouped(key string, value *yaml.Node) string {
	for i := 0; i < len(value.Content); i += 2 {
		if flat := key + "-" + value.Content[i].Value; s.flags.Lookup(flat) != nil {
			return fmt.Sprintf("settings are not grouped: write %q at the beginning of a line", flat)
		}
	}
	return "settings are not grouped: a key has one value, or a list"
}

// isNumber reports whether a type of pflag's is one of whole numbers.
func isNumber(flagType string) bool {
	return strings.HasPrefix(flagType, "int") || strings.HasPrefix(flagType, "uint")
}

// fits refuses a scalar that YAML takes for something else than the flag is. What the
// value may be, the flag knows.
func fits(flagType string, value *yaml.Node) error {
	tag := value.ShortTag()
	switch {
	case flagType == "bool" && tag != "!!bool":
		return errors.New("it must be true or false")
	case isNumber(flagType) && tag != "!!int":
		return errors.New("it must be a whole number")
	case strings.HasPrefix(flagType, "float") && tag != "!!float" && tag != "!!int":
		return errors.New("it must be a number")
	case flagType == "duration" && tag == "!!int" && value.Value != "0":
		return fmt.Errorf("it must have a unit, such as %ss or %sm", value.Value, value.Value)
	case flagType == "string" && tag != "!!str":
		return errors.New("it must be text: put it in quotes")
	}
	return nil
}

// given is how an error shows a value: as it stands in the file, without passwords.
func given(value *yaml.Node) string {
	if value.Kind != yaml.ScalarNode || value.ShortTag() == "!!null" {
		return ""
	}
	return fmt.Sprintf(" is %q", shown(value.Value))
}

// advice on a key that is none.
func (s *settingsFile) advice(key string, value *yaml.Node) string {
	if value.Kind == yaml.MappingNode {
		return s.grouped(key, value)
	}
	plain := strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(strings.TrimLeft(key, "-")), "_", "-"), "tidegate-")
	if roles := rolesWith(plain); len(roles) > 0 && s.flags.Lookup(plain) == nil {
		return fmt.Sprintf("it is a setting of processes with the roles %s", strings.Join(roles, ", "))
	}
	var names []string
	visitSettings(s.flags, func(flag *pflag.Flag) { names = append(names, flag.Name) })
	near := nearest(plain, names)
	if near == "" {
		return "the keys are the names of the flags that --help lists"
	}
	return fmt.Sprintf("did you mean %q?", near)
}

// nearest returns the first of the names that is least different from one that is none of
// them; empty where all are other words.
func nearest(plain string, names []string) (near string) {
	least := max(2, len(plain)/4) + 1 // as far off is another word
	for _, name := range names {
		if distance := levenshtein.ComputeDistance(plain, name); distance < least {
			near, least = name, distance
		}
	}
	return near
}

// rolesWith are those that have a flag of a name.
func rolesWith(name string) []string {
	var names []string
	for _, role := range AllRoles {
		config := DefaultConfig(role)
		f := pflag.NewFlagSet(string(role), pflag.ContinueOnError)
		config.Bind(f)
		if flag := f.Lookup(name); flag != nil && isSetting(flag) {
			names = append(names, string(role))
		}
	}
	return names
}
