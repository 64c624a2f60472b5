package published

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// differences returns where answers of the document may be other than the calls of
// the SDK expect, each with the operation's id, and the ids of the operations that the SDK has no call for.
func differences(doc *openapi3.T, calls []call) (found, unknown []string) {
	for _, path := range doc.Paths.InMatchingOrder() {
		for method, operation := range doc.Paths.Value(path).Operations() {
			i := slices.IndexFunc(calls, func(c call) bool { return c.method == method && c.is(path) })
			if i < 0 {
				unknown = append(unknown, operation.OperationID)
				continue
			}
			answer := operation.Responses.Status(200)
			if answer == nil {
				continue // it refuses
			}
			for _, difference := range compareAnswer(calls[i].body, answer.Value) {
				found = append(found, operation.OperationID+": "+difference)
			}
		}
	}
	slices.Sort(found)
	slices.Sort(unknown)
	return found, unknown
}

// is reports whether a path of the document is the call's: parameters are
// parameters, and only what comes first may be one for the call alone, which serves
// accounts and zones.
func (c *call) is(path string) bool {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(segments) != len(c.path) {
		return false
	}
	for i, segment := range segments {
		parameter := strings.HasPrefix(segment, "{") || i == 0
		if c.path[i] != segment && (c.path[i] != "*" || !parameter) {
			return false
		}
	}
	return true
}

func compareAnswer(theirs *shape, ours *openapi3.Response) []string {
	json := ours.Content.Get("application/json")
	switch {
	case theirs == nil || theirs.kind == "string": // bytes, or nothing that the SDK reads
		return nil
	case json == nil:
		return []string{"the answer is no JSON"}
	}
	return compare("", theirs, json.Schema.Value)
}

// compare returns where ours lets an answer through that is not of their shape.
// What ours has beyond it is the document's business, and so is an optional member
// that ours lacks.
func compare(at string, theirs *shape, ours *openapi3.Schema) []string {
	if theirs == nil || theirs.kind == "" {
		return nil
	}
	o := flatten(ours)
	switch {
	case o.kind == "":
		return []string{fmt.Sprintf("%s may be anything, not only %s", at, theirs.kind)}
	case o.kind != theirs.kind && (o.kind != "integer" || theirs.kind != "number"):
		return []string{fmt.Sprintf("%s is %s, not %s", at, o.kind, theirs.kind)}
	}
	found := compareValues(at, theirs.values, o.values)
	if theirs.items != nil && o.items != nil {
		found = append(found, compare(at+"[]", theirs.items, o.items.Value)...)
	}
	if theirs.rest != nil && o.rest != nil {
		found = append(found, compare(at+".*", theirs.rest, o.rest.Value)...)
	}
	for _, name := range slices.Sorted(maps.Keys(theirs.members)) {
		found = append(found, compareMember(strings.TrimPrefix(at+"."+name, "."), theirs.members[name], &o, name)...)
	}
	return found
}

func compareValues(at string, theirs, ours []string) []string {
	if len(theirs) == 0 {
		return nil
	}
	if len(ours) == 0 {
		return []string{fmt.Sprintf("%s may have any value, not only %q", at, theirs)}
	}
	var found []string
	for _, value := range ours {
		if !slices.Contains(theirs, value) {
			found = append(found, fmt.Sprintf("%s may be %q, which is not among %q", at, value, theirs))
		}
	}
	return found
}

func compareMember(at string, theirs member, in *contract, name string) []string {
	ours := in.members[name]
	switch {
	case ours == nil && theirs.required:
		return []string{at + " is missing"}
	case ours == nil:
		return nil
	}
	var found []string
	if theirs.required && !in.required[name] {
		found = append(found, at+" may be missing")
	}
	if flatten(ours.Value).nullable && !theirs.nullable && theirs.kind != "" {
		found = append(found, at+" may be null")
	}
	return append(found, compare(at, theirs.shape, ours.Value)...)
}

// contract is a schema of openapi.yaml with its allOf merged.
type contract struct {
	kind     string // empty for any
	nullable bool
	members  map[string]*openapi3.SchemaRef
	required map[string]bool
	items    *openapi3.SchemaRef // nil for an array that is always empty
	rest     *openapi3.SchemaRef
	values   []string // that an enumeration allows, without null
}

func flatten(s *openapi3.Schema) contract {
	out := contract{members: map[string]*openapi3.SchemaRef{}, required: map[string]bool{}}
	out.merge(s)
	return out
}

func (c *contract) merge(s *openapi3.Schema) {
	for _, part := range s.AllOf {
		c.merge(part.Value)
	}
	switch kinds := s.Type.Slice(); {
	case len(kinds) > 0:
		c.kind = kinds[0]
	case len(s.Properties) > 0 && c.kind == "":
		c.kind = "object"
	}
	c.nullable = c.nullable || s.Nullable
	maps.Copy(c.members, s.Properties)
	for _, name := range s.Required {
		c.required[name] = true
	}
	if s.Items != nil && (s.MaxItems == nil || *s.MaxItems > 0) {
		c.items = s.Items
	}
	if s.AdditionalProperties.Schema != nil {
		c.rest = s.AdditionalProperties.Schema
	}
	for _, value := range s.Enum {
		if value != nil {
			c.values = append(c.values, fmt.Sprint(value))
		}
	}
}
