package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"tidegate/internal/errs"
)

// decodeStrict decodes a JSON text into v, a pointer to a struct, a slice or a map.
// It refuses what encoding/json lets pass and a person would want to know: members
// that v has not (names are case-sensitive), members that appear twice, strings
// with a NUL, and anything after the text. Errors are invalid *errs.Error that name the member and its value.
func decodeStrict(text []byte, v any) error { return decodeAt(text, v, place{}) }

// decodeAt is decodeStrict of a part of a document, which is at a place in it.
func decodeAt(text []byte, v any, at place) error {
	w := newWalker(text)
	if len(bytes.TrimSpace(text)) == 0 {
		return errs.New(errs.Invalid, 0, "the body is empty: JSON is wanted")
	}
	if !utf8.Valid(text) {
		return errs.New(errs.Invalid, 0, "the body is not UTF-8")
	}
	if err := w.value(reflect.TypeOf(v).Elem(), at); err != nil {
		return err
	}
	if _, err := w.Token(); !errors.Is(err, io.EOF) {
		return errs.New(errs.Invalid, 0, "the body goes on after the JSON text, at byte %d", w.InputOffset())
	}
	if err := json.Unmarshal(text, v); err != nil {
		return errs.New(errs.Invalid, 0, "the body cannot be decoded: %v", err)
	}
	return nil
}

// place is where in a document a value is. It is written out only when something is
// to be said about it: names of all the values of a deep or wide document would take
// much more memory and time than the document.
type place struct {
	in  *place // nil: this is the whole document
	key string // of a member
	i   int    // of an element, where key is empty and isElement is set

	isElement bool
}

func (p place) member(key string) place { return place{in: &p, key: key} }

func (p place) element(i int) place { return place{in: &p, i: i, isElement: true} }

// path returns the steps to p, the outermost first.
func (p place) path() []place {
	var steps []place
	for ; p.in != nil; p = *p.in {
		steps = append(steps, p)
	}
	slices.Reverse(steps)
	return steps
}

// String is for people: versions[0].percentage.
func (p place) String() string {
	var b strings.Builder
	for _, step := range p.path() {
		switch {
		case step.isElement:
			fmt.Fprintf(&b, "[%d]", step.i)
		case b.Len() > 0:
			b.WriteString("." + step.key)
		default:
			b.WriteString(step.key)
		}
	}
	if b.Len() == 0 {
		return "the body"
	}
	return b.String()
}

// pointer is for programs: /versions/0/percentage.
func (p place) pointer() string {
	var b strings.Builder
	for _, step := range p.path() {
		if step.isElement {
			fmt.Fprintf(&b, "/%d", step.i)
		} else {
			b.WriteString("/" + pointerEscape.Replace(step.key))
		}
	}
	return b.String()
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func (p place) fail(format string, args ...any) error {
	return errs.New(errs.Invalid, 0, "%s %s", p, fmt.Sprintf(format, args...)).At(p.pointer())
}

// walker reads a document along the type that it will be decoded into.
type walker struct{ *json.Decoder }

func newWalker(text []byte) *walker {
	w := walker{json.NewDecoder(bytes.NewReader(text))}
	w.UseNumber()
	return &w
}

var rawType = reflect.TypeFor[json.RawMessage]()

var unmarshalerType = reflect.TypeFor[json.Unmarshaler]()

func (w *walker) value(t reflect.Type, at place) error {
	nullable := false
	for t.Kind() == reflect.Pointer {
		t, nullable = t.Elem(), true
	}
	if t == rawType {
		return w.raw(at)
	}
	nullable = nullable || t.Kind() == reflect.Slice || t.Kind() == reflect.Map
	// A type that decodes itself is asked, except a struct with members: its own
	// method knows nothing of repeated ones.
	if reflect.PointerTo(t).Implements(unmarshalerType) && len(members(t)) == 0 {
		return w.leaf(t, nullable, at)
	}
	token, err := w.Token()
	if err != nil {
		return syntaxError(err)
	}
	switch x := token.(type) {
	case nil:
		if nullable {
			return nil
		}
	case json.Delim:
		switch {
		case x == '{' && t.Kind() == reflect.Struct:
			return w.object(members(t), at)
		case x == '{' && t.Kind() == reflect.Map:
			return w.mapping(t.Elem(), at)
		case x == '[' && t.Kind() == reflect.Slice:
			return w.array(t.Elem(), at)
		}
	case string:
		if strings.Contains(x, "\x00") { // PostgreSQL has no text with it
			return at.fail("has a NUL character")
		}
		if t.Kind() == reflect.String {
			return nil
		}
	case bool:
		if t.Kind() == reflect.Bool {
			return nil
		}
	case json.Number:
		if fits(x, t) {
			return nil
		}
	}
	return at.fail("is %s: it must be %s", shownToken(token), wanted(t))
}

func (w *walker) leaf(t reflect.Type, nullable bool, at place) error {
	var raw json.RawMessage
	if err := w.Decode(&raw); err != nil {
		return syntaxError(err)
	}
	if nullable && string(raw) == "null" {
		return nil
	}
	err := reflect.New(t).Interface().(json.Unmarshaler).UnmarshalJSON(raw)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return at.fail("is %s: it must be %s", shown(string(raw)), wanted(e.Type))
	}
	if err != nil {
		return at.fail("is %s: %v", shown(string(raw)), err)
	}
	return nil
}

// raw looks through a value of any shape. It is read whole first, which bounds how
// deep it is.
func (w *walker) raw(at place) error {
	var text json.RawMessage
	if err := w.Decode(&text); err != nil {
		return syntaxError(err)
	}
	return newWalker(text).anything(at)
}

func (w *walker) anything(at place) error {
	token, err := w.Token()
	if err != nil {
		return syntaxError(err)
	}
	switch x := token.(type) {
	case json.Delim:
		if x == '{' {
			return w.each(at, func(_ string, here place) error { return w.anything(here) })
		}
		for i := 0; w.More(); i++ {
			if err := w.anything(at.element(i)); err != nil {
				return err
			}
		}
		return w.end()
	case string:
		if strings.Contains(x, "\x00") {
			return at.fail("has a NUL character")
		}
	}
	return nil
}

func (w *walker) mapping(element reflect.Type, at place) error {
	return w.each(at, func(_ string, here place) error { return w.value(element, here) })
}

func (w *walker) object(known map[string]reflect.Type, at place) error {
	return w.each(at, func(key string, here place) error {
		member, ok := known[key]
		if !ok {
			return here.fail("is unknown: the members here are %s", strings.Join(sortedKeys(known), ", "))
		}
		return w.value(member, here)
	})
}

// each reads the members of an object, the opening brace of which was read.
func (w *walker) each(at place, member func(key string, here place) error) error {
	seen := make(map[string]bool)
	for w.More() {
		token, err := w.Token()
		if err != nil {
			return syntaxError(err)
		}
		key, _ := token.(string) // between braces the decoder gives nothing else
		here := at.member(key)
		switch {
		case seen[key]:
			return here.fail("appears twice")
		case strings.Contains(key, "\x00"):
			return at.fail("has a member with a NUL character")
		}
		seen[key] = true
		if err := member(key, here); err != nil {
			return err
		}
	}
	return w.end()
}

func (w *walker) array(element reflect.Type, at place) error {
	for i := 0; w.More(); i++ {
		if err := w.value(element, at.element(i)); err != nil {
			return err
		}
	}
	return w.end()
}

// end reads the closing bracket.
func (w *walker) end() error {
	if _, err := w.Token(); err != nil {
		return syntaxError(err)
	}
	return nil
}

func syntaxError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Invalid, 0, "the body is not valid JSON: it ends too early")
	}
	return errs.New(errs.Invalid, 0, "the body is not valid JSON: %v", err)
}

// membersOf holds what members has found, by type: to find it for each element of a list
// took more memory than all else that is done with it.
var membersOf sync.Map // of map[string]reflect.Type, which nobody changes

// members returns the types of a struct's members by their names in JSON. Of two
// with one name the outer one counts, as in encoding/json.
func members(t reflect.Type) map[string]reflect.Type {
	if t.Kind() != reflect.Struct {
		return nil
	}
	if known, ok := membersOf.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	found := make(map[string]reflect.Type)
	depth := make(map[string]int)
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" || !field.IsExported() {
			continue
		}
		if d, ok := depth[name]; !ok || len(field.Index) < d {
			found[name], depth[name] = field.Type, len(field.Index)
		}
	}
	membersOf.Store(t, found)
	return found
}

func sortedKeys(m map[string]reflect.Type) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// fits reports whether the number can be held by t.
func fits(n json.Number, t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		_, err := strconv.ParseInt(n.String(), 10, 64)
		return err == nil
	case reflect.Float64:
		_, err := n.Float64()
		return err == nil
	default:
		return false
	}
}

// wanted names a type as JSON has it.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "an array"
	default:
		return "an object"
	}
}

func shownToken(token json.Token) string {
	switch x := token.(type) {
	case json.Delim:
		if x == '[' {
			return "an array"
		}
		return "an object"
	case string:
		return shown(strconv.Quote(x))
	case nil:
		return "null"
	default:
		return shown(fmt.Sprint(x))
	}
}

// shown shortens a value for a message.
func shown(value string) string {
	const most = 60
	if len(value) <= most {
		return value
	}
	return strings.ToValidUTF8(value[:most], "") + "..."
}
