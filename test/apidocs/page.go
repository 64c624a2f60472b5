// Package apidocs writes docs/api.md from schema/openapi.yaml.
package apidocs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

const head = `# The API

<!-- Written from schema/openapi.yaml by test/apidocs. Change that, then: go test ./test/apidocs -update -->

The same as [schema/openapi.yaml](../schema/openapi.yaml), which the API serves at ` + "`/openapi.yaml`" + `, for people. Every path begins with ` + "`/client/v4`" + `,
unless it says otherwise. What Cloudflare does not have is marked "Addition"; [extensions.md](extensions.md) tells more of it.

`

// operation is one method of one path.
type operation struct {
	method, path string
	item         *openapi3.PathItem
	*openapi3.Operation
}

// Page is docs/api.md.
func Page(doc *openapi3.T) string {
	var w strings.Builder
	w.WriteString(head)
	w.WriteString(strings.TrimSpace(doc.Info.Description) + "\n")
	for _, tag := range doc.Tags {
		fmt.Fprintf(&w, "\n## Endpoints: %s\n", tag.Name)
		for _, o := range operations(doc, tag.Name) {
			o.write(&w)
		}
	}
	w.WriteString("\n## Shapes\n\nWhat bodies and results are made of. A member that is required has a `*`.\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		writeShape(&w, name, doc.Components.Schemas[name].Value)
	}
	return w.String()
}

// operations of a tag, by path, then reading before writing.
func operations(doc *openapi3.T, tag string) (all []operation) {
	order := []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if len(o.Tags) > 0 && o.Tags[0] == tag {
				all = append(all, operation{method, path, item, o})
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int {
		return cmp.Or(strings.Compare(a.path, b.path), slices.Index(order, a.method)-slices.Index(order, b.method))
	})
	return all
}

func (o *operation) write(w *strings.Builder) {
	fmt.Fprintf(w, "\n### %s `%s`\n\n%s.", o.method, o.path, strings.TrimSuffix(oneLine(o.Summary), "."))
	for _, s := range o.item.Servers {
		if s.URL == "/" {
			w.WriteString(" Outside `/client/v4`.")
		}
	}
	if text := oneLine(o.Description); text != "" {
		w.WriteString(" " + text)
	}
	w.WriteString("\n")
	if parameters := slices.Concat(o.item.Parameters, o.Parameters); len(parameters) > 0 {
		w.WriteString("\n| Parameter | In | Type | What |\n|---|---|---|---|\n")
		for _, p := range parameters {
			name := "`" + p.Value.Name + "`"
			if p.Value.Required {
				name += " *"
			}
			description := p.Value.Description
			if p.Value.Schema != nil && p.Value.Schema.Ref == "" {
				description = cmp.Or(description, p.Value.Schema.Value.Description)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s |\n", name, p.Value.In, typeOf(p.Value.Schema), cell(description))
		}
	}
	if body := o.RequestBody; body != nil {
		for _, kind := range slices.Sorted(maps.Keys(body.Value.Content)) {
			fmt.Fprintf(w, "\nBody, `%s`: %s\n", kind, typeOf(body.Value.Content[kind].Schema))
		}
	}
	w.WriteString("\nAnswers: " + strings.Join(answers(o.Responses), "; ") + "\n")
}

// answers but errors, which are the same everywhere.
func answers(responses *openapi3.Responses) (lines []string) {
	all := responses.Map()
	for _, status := range slices.Sorted(maps.Keys(all)) {
		if status == "default" {
			continue
		}
		r := all[status].Value
		line := "`" + status + "`"
		if r.Description != nil {
			line += " " + oneLine(*r.Description)
		}
		for _, kind := range slices.Sorted(maps.Keys(r.Content)) {
			if kind != "application/json" {
				line += ", `" + kind + "`"
			}
			if result := resultOf(r.Content[kind].Schema); result != "" {
				line += ", " + result
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// resultOf is the type of the envelope's result; what has no envelope is described by its answer.
func resultOf(s *openapi3.SchemaRef) string {
	if s == nil {
		return ""
	}
	for _, part := range s.Value.AllOf {
		if result := part.Value.Properties["result"]; result != nil {
			return typeOf(result)
		}
	}
	return ""
}

func writeShape(w *strings.Builder, name string, s *openapi3.Schema) {
	fmt.Fprintf(w, "\n### %s\n", name)
	if text := oneLine(s.Description); text != "" {
		fmt.Fprintf(w, "\n%s\n", text)
	}
	members, required := map[string]*openapi3.SchemaRef{}, slices.Clone(s.Required)
	collect(s, members, &required)
	if len(members) == 0 {
		fmt.Fprintf(w, "\n%s\n", typeOf(&openapi3.SchemaRef{Value: s}))
		return
	}
	w.WriteString("\n| Member | Type | What |\n|---|---|---|\n")
	for _, member := range slices.Sorted(maps.Keys(members)) {
		name := "`" + member + "`"
		if slices.Contains(required, member) {
			name += " *"
		}
		of := members[member]
		description := ""
		if of.Ref == "" {
			description = of.Value.Description
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", name, typeOf(of), cell(description))
	}
}

// collect takes the members of a shape, and of those that it is made of.
func collect(s *openapi3.Schema, members map[string]*openapi3.SchemaRef, required *[]string) {
	maps.Copy(members, s.Properties)
	for _, part := range s.AllOf {
		*required = append(*required, part.Value.Required...)
		collect(part.Value, members, required)
	}
}

// typeOf is a type in few words; a named one is a link to its shape.
func typeOf(s *openapi3.SchemaRef) string {
	if s == nil || s.Value == nil {
		return ""
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	v := s.Value
	several := func(parts openapi3.SchemaRefs, between string) string {
		var names []string
		for _, p := range parts {
			names = append(names, typeOf(p))
		}
		return strings.Join(names, between)
	}
	switch {
	case len(v.Enum) > 0:
		var values []string
		for _, e := range v.Enum {
			if e == nil {
				e = "null"
			}
			values = append(values, fmt.Sprintf("`%v`", e))
		}
		return strings.Join(values, ", ")
	case len(v.OneOf) > 0:
		return several(v.OneOf, " or ")
	case len(v.AnyOf) > 0:
		return several(v.AnyOf, " or ")
	case len(v.AllOf) > 0:
		return several(v.AllOf, " and ")
	case v.Type.Is("array"):
		return "list of " + typeOf(v.Items)
	case v.Type.Is("object") && v.AdditionalProperties.Schema != nil:
		return "object of " + typeOf(v.AdditionalProperties.Schema)
	case v.Type == nil:
		return "any"
	}
	text := strings.Join(v.Type.Slice(), " or ")
	if v.Format != "" {
		text += ", " + v.Format
	}
	return text
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// cell is text in a table.
func cell(s string) string { return strings.ReplaceAll(oneLine(s), "|", `\|`) }
