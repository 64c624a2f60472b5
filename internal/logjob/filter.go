package logjob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tidegate/schema"
)

// Limits of a filter, as in Logpush.
const (
	maxFilterBytes     = 1000
	maxFilterOperators = 30 // comparisons, ands and ors
)

// Filter decides which records a job sends. The nil Filter keeps all. It is
// immutable and safe for concurrent use.
type Filter struct {
	keep predicate
}

type predicate func(*Record) bool

// Match reports whether the filter keeps r.
func (f *Filter) Match(r *Record) bool { return f == nil || f.keep(r) }

// ParseFilter reads the JSON text of a job's filter, {"where": expr}; an empty
// text is no filter. An expr is {"and": [expr, ...]}, {"or": [expr, ...]} or
// {"key", "operator", "value"}, where key is a field or one of schema.Members.
// Strings compare byte by byte, case and all; of a missing or null value only the
// negated operators are true. Below lists a comparison is true when any element
// passes, and its negation when none does.
func ParseFilter(text string) (*Filter, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxFilterBytes {
		return nil, badFilter(fmt.Errorf("it has %d bytes, more than the %d allowed", len(text), maxFilterBytes))
	}
	p := filterParser{}
	keep, err := p.where([]byte(text))
	if err != nil {
		return nil, badFilter(err)
	}
	return &Filter{keep}, nil
}

func badFilter(err error) error { return notAllowed("/filter", "filter is not allowed: %v", err) }

type filterParser struct {
	operators int // so far
}

func (p *filterParser) where(text []byte) (predicate, error) {
	var keep predicate
	err := uniqueMembers(text, func(name string, value []byte) (err error) {
		if name != "where" {
			return fmt.Errorf("unknown member %q; a filter is {\"where\": ...}", name)
		}
		keep, err = p.node(value)
		return err
	})
	if err == nil && keep == nil {
		err = errors.New(`"where" is missing`)
	}
	return keep, err
}

// node parses one expr. Exactly one of its three forms may be used; the texts of
// the refusals are those that users know from Cloudflare's own client.
func (p *filterParser) node(text []byte) (predicate, error) {
	if p.operators++; p.operators > maxFilterOperators {
		return nil, fmt.Errorf("it has more than %d operators", maxFilterOperators)
	}
	var and, or, key, operator, value []byte
	err := uniqueMembers(text, func(name string, raw []byte) error {
		switch name {
		case "and":
			and = raw
		case "or":
			or = raw
		case "key":
			key = raw
		case "operator":
			operator = raw
		case "value":
			value = raw
		default:
			return fmt.Errorf("unknown member %q", name)
		}
		return nil
	})
	compares := key != nil || operator != nil || value != nil
	switch {
	case err != nil:
		return nil, err
	case and != nil:
		if or != nil || compares {
			return nil, exclusive("And", "Or")
		}
		return p.group("And", and, allOf)
	case or != nil:
		if compares {
			return nil, exclusive("Or", "And")
		}
		return p.group("Or", or, anyOf)
	case key == nil:
		return nil, missing("Key")
	case operator == nil:
		return nil, missing("Operator")
	case value == nil:
		return nil, missing("Value")
	}
	return comparison(key, operator, value)
}

func exclusive(form, other string) error {
	return fmt.Errorf("%s can't be set with %s, Key, Operator or Value", form, other)
}

func missing(member string) error { return fmt.Errorf("%s is missing", member) }

func (p *filterParser) group(name string, list []byte, join func([]predicate) predicate) (predicate, error) {
	var keeps []predicate
	var failed error
	err := elements(list, func(element []byte) bool {
		keep, err := p.node(element)
		if err != nil {
			failed = fmt.Errorf("element %d in %s is invalid: %w", len(keeps), name, err)
			return false
		}
		keeps = append(keeps, keep)
		return true
	})
	switch {
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, fmt.Errorf("%s must be a list: %w", name, err)
	case len(keeps) == 0:
		return nil, fmt.Errorf("%s has no elements", name)
	}
	return join(keeps), nil
}

func allOf(keeps []predicate) predicate {
	return func(r *Record) bool {
		return !slices.ContainsFunc(keeps, func(keep predicate) bool { return !keep(r) })
	}
}

func anyOf(keeps []predicate) predicate {
	return func(r *Record) bool {
		return slices.ContainsFunc(keeps, func(keep predicate) bool { return keep(r) })
	}
}

func comparison(key, operator, value []byte) (predicate, error) {
	name, ok := Unquote(key)
	if !ok {
		return nil, fmt.Errorf("%s %s must be a string", "Key", key)
	}
	op, ok := Unquote(operator)
	if !ok {
		return nil, fmt.Errorf("%s %s must be a string", "Operator", operator)
	}
	target, err := targetOf(string(name))
	if err != nil {
		return nil, err
	}
	base, negated := strings.CutPrefix(string(op), "!")
	test, err := newTest(target, base, negated, value)
	if err != nil {
		return nil, err
	}
	return func(r *Record) bool {
		raw, ok := r.value(target.field)
		return (ok && target.any(raw, test)) != negated
	}, nil
}

// target is what a comparison looks at: a field, or a member below it.
type target struct {
	key   string
	kind  schema.FieldType
	field int      // its place in schema.Fields
	names []string // of the way from the field to the member
}

func targetOf(key string) (target, error) {
	if i := fieldNumber([]byte(key)); i >= 0 {
		return target{key: key, kind: schema.Fields[i].Type, field: i}, nil
	}
	if kind, field, names, ok := schema.MemberAt(key); ok {
		return target{key, kind, fieldNumber([]byte(field)), names}, nil
	}
	if strings.ContainsAny(key, ".[") {
		return target{}, fmt.Errorf("the dataset %s has no member %q that can be filtered", schema.Dataset, key)
	}
	return target{}, fmt.Errorf("the dataset %s has no field %q%s", schema.Dataset, key, meantField(key))
}

// any reports whether test is true of the field, or of any of the members.
func (t *target) any(raw []byte, test func([]byte) bool) bool {
	if t.names == nil {
		return test(raw)
	}
	return anyAt(raw, t.names, test)
}

// newTest returns the comparison of a present value, not yet negated. A value
// that is not of the target's type fails it.
func newTest(t target, op string, negated bool, value []byte) (func(raw []byte) bool, error) {
	switch t.kind {
	case schema.TypeObject, schema.TypeObjectArray:
		return nil, fmt.Errorf("%s is of type %s, which cannot be filtered; its members can, such as %s", t.key, t.kind, exampleOf(t.key))
	}
	var test func(raw []byte) bool
	var err error
	ordered := op == "lt" || op == "leq" || op == "gt" || op == "geq"
	switch {
	case ordered && negated:
		// There are no negated forms of these: fall through to the refusal.
	case t.kind == schema.TypeInt:
		test, err = intTest(op, value)
	case t.kind == schema.TypeString:
		test, err = stringTest(op, value, t.names != nil)
	case t.kind == schema.TypeStringArray:
		test, err = listTest(op, value)
	}
	if test == nil && err == nil {
		if negated {
			op = "!" + op
		}
		return nil, fmt.Errorf("%s %q cannot be used on %s, which is of type %s", "Operator", op, t.key, t.kind)
	}
	return test, err
}

func exampleOf(field string) string {
	for _, m := range schema.Members {
		if strings.HasPrefix(m.Path, field) {
			return m.Path
		}
	}
	return "none"
}

func intTest(op string, value []byte) (func([]byte) bool, error) {
	var compare func(a, b int64) bool
	switch op {
	case "eq":
		compare = func(a, b int64) bool { return a == b }
	case "lt":
		compare = func(a, b int64) bool { return a < b }
	case "leq":
		compare = func(a, b int64) bool { return a <= b }
	case "gt":
		compare = func(a, b int64) bool { return a > b }
	case "geq":
		compare = func(a, b int64) bool { return a >= b }
	case "in":
		wanted, err := decodeList(value, "[]int64", decodeInt)
		return func(raw []byte) bool {
			n, ok := parseInt(raw)
			return ok && slices.Contains(wanted, n)
		}, err
	default:
		return nil, nil
	}
	wanted, err := decodeInt(value)
	return func(raw []byte) bool {
		n, ok := parseInt(raw)
		return ok && compare(n, wanted)
	}, err
}

// stringTest compares strings; with anyJSON other values, too, by their JSON: the
// arguments of a console call may be anything, and so may what CF holds.
func stringTest(op string, value []byte, anyJSON bool) (func([]byte) bool, error) {
	var compare func(s, wanted []byte) bool
	switch op {
	case "eq":
		compare = bytes.Equal
	case "startsWith":
		compare = bytes.HasPrefix
	case "endsWith":
		compare = bytes.HasSuffix
	case "contains":
		compare = bytes.Contains
	case "in":
		wanted, err := decodeList(value, "[]string", decodeString)
		return func(raw []byte) bool {
			return testText(raw, anyJSON, func(s []byte) bool {
				return slices.ContainsFunc(wanted, func(w []byte) bool { return bytes.Equal(s, w) })
			})
		}, err
	default:
		return nil, nil
	}
	wanted, err := decodeString(value)
	return func(raw []byte) bool {
		return testText(raw, anyJSON, func(s []byte) bool { return compare(s, wanted) })
	}, err
}

// unescaped holds buffers for the texts of strings with escapes.
var unescaped = sync.Pool{New: func() any { return new([]byte) }}

// testText calls test with the text of a string, without allocating, or with the
// JSON of another value if that is wanted.
func testText(raw []byte, anyJSON bool, test func(text []byte) bool) bool {
	text, escaped, ok := inside(raw)
	switch {
	case !ok:
		return anyJSON && test(raw)
	case !escaped:
		return test(text)
	}
	buffer := unescaped.Get().(*[]byte)
	*buffer = appendUnescaped((*buffer)[:0], text)
	result := test(*buffer)
	unescaped.Put(buffer)
	return result
}

func listTest(op string, value []byte) (func([]byte) bool, error) {
	if op != "contains" {
		return nil, nil
	}
	wanted, err := decodeString(value)
	isWanted := func(element []byte) bool {
		return testText(element, false, func(s []byte) bool { return bytes.Equal(s, wanted) })
	}
	return func(raw []byte) bool {
		// Another shape than a list contains nothing.
		return raw[0] == '[' && anyAt(raw, nil, isWanted)
	}, err
}

func parseInt(raw []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil
}

// decodeInt accepts 30 and "30": the documentation's own examples quote numbers.
func decodeInt(value []byte) (int64, error) {
	raw := value
	if text, ok := Unquote(value); ok {
		raw = text
	}
	n, ok := parseInt(raw)
	if !ok {
		return 0, badPredicate(value, "int64")
	}
	return n, nil
}

func decodeString(value []byte) ([]byte, error) {
	text, ok := Unquote(value)
	if !ok {
		return nil, badPredicate(value, "string")
	}
	return text, nil
}

func decodeList[T interface{ int64 | []byte }](value []byte, kind string, decode func([]byte) (T, error)) ([]T, error) {
	var list []T
	var failed error
	err := elements(value, func(element []byte) bool {
		v, err := decode(element)
		list, failed = append(list, v), err
		return err == nil
	})
	if err != nil || failed != nil || len(list) == 0 {
		return nil, badPredicate(value, kind)
	}
	return list, nil
}

func badPredicate(value []byte, kind string) error {
	return fmt.Errorf("bad predicate: failed to decode value %q, supported kinds: %s", value, kind)
}

// uniqueMembers is members for settings: names are decoded, and a repeated one
// is an error, because one of the two would be ignored.
func uniqueMembers(text []byte, f func(name string, value []byte) error) error {
	seen := map[string]bool{}
	return members(text, func(raw, value []byte) error {
		var name string
		if err := json.Unmarshal(raw, &name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("member %q is given twice", name)
		}
		seen[name] = true
		return f(name, value)
	})
}
