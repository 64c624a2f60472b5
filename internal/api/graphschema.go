package api

import (
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// wholeSchema answers __schema.
func (g *graph) wholeSchema(set ast.SelectionSet) (any, error) {
	return g.object(set, "__Schema", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "types":
			names := slices.Sorted(maps.Keys(graphSchema.Types))
			return tellAll(names, func(name string) (any, error) { return g.definition(f.SelectionSet, graphSchema.Types[name]) })
		case "queryType":
			return g.definition(f.SelectionSet, graphSchema.Query)
		case "directives":
			return tellAll([]string{"include", "skip"}, func(name string) (any, error) { return g.directive(f.SelectionSet, graphSchema.Directives[name]) })
		}
		return nil, nil // there are no mutations and no subscriptions
	})
}

// namedType answers __type; a type that there is not is null.
func (g *graph) namedType(f *ast.Field) (any, error) {
	arguments, err := g.arguments(f)
	if err != nil {
		return nil, err
	}
	name, _ := arguments["name"].(string)
	if graphSchema.Types[name] == nil {
		return nil, nil
	}
	return g.definition(f.SelectionSet, graphSchema.Types[name])
}

func tellAll[T any](list []T, one func(T) (any, error)) (any, error) {
	out := make([]any, len(list))
	for i, item := range list {
		var err error
		if out[i], err = one(item); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// definition tells of a type that has a name.
func (g *graph) definition(set ast.SelectionSet, d *ast.Definition) (any, error) {
	return g.object(set, "__Type", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "kind":
			return string(d.Kind), nil
		case "name":
			return d.Name, nil
		case "description":
			return said(d.Description), nil
		case "isOneOf":
			return false, nil
		case "interfaces":
			if d.Kind == ast.Object { // there are no interfaces
				return []any{}, nil
			}
		case "fields":
			if d.Kind == ast.Object {
				fields := slices.DeleteFunc(slices.Clone(d.Fields), func(f *ast.FieldDefinition) bool { return strings.HasPrefix(f.Name, "__") })
				return tellAll(fields, func(one *ast.FieldDefinition) (any, error) { return g.fieldOfType(f.SelectionSet, one) })
			}
		case "inputFields":
			if d.Kind == ast.InputObject {
				return tellAll(d.Fields, func(one *ast.FieldDefinition) (any, error) {
					return g.inputValue(f.SelectionSet, one.Name, one.Description, one.Type, one.DefaultValue)
				})
			}
		case "enumValues":
			if d.Kind == ast.Enum {
				return tellAll(d.EnumValues, func(one *ast.EnumValueDefinition) (any, error) { return g.enumValue(f.SelectionSet, one) })
			}
		}
		return nil, nil // a type of this kind has none
	})
}

// reference tells of a type as something has it: a list, what is never null, or a name.
func (g *graph) reference(set ast.SelectionSet, t *ast.Type) (any, error) {
	kind, inner := "LIST", t.Elem
	if t.NonNull {
		nullable := *t
		nullable.NonNull = false
		kind, inner = "NON_NULL", &nullable
	} else if t.Elem == nil {
		return g.definition(set, graphSchema.Types[t.NamedType])
	}
	return g.object(set, "__Type", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "kind":
			return kind, nil
		case "ofType":
			return g.reference(f.SelectionSet, inner)
		}
		return nil, nil
	})
}

// described answers the fields that all parts of a type have. None is deprecated.
func described(f *ast.Field, name, description string) any {
	switch f.Name {
	case "name":
		return name
	case "description":
		return said(description)
	case "isDeprecated", "isRepeatable":
		return false
	}
	return nil
}

func (g *graph) fieldOfType(set ast.SelectionSet, d *ast.FieldDefinition) (any, error) {
	return g.object(set, "__Field", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "args":
			return g.takes(f.SelectionSet, d.Arguments)
		case "type":
			return g.reference(f.SelectionSet, d.Type)
		}
		return described(f, d.Name, d.Description), nil
	})
}

func (g *graph) takes(set ast.SelectionSet, list ast.ArgumentDefinitionList) (any, error) {
	return tellAll(list, func(a *ast.ArgumentDefinition) (any, error) {
		return g.inputValue(set, a.Name, a.Description, a.Type, a.DefaultValue)
	})
}

func (g *graph) inputValue(set ast.SelectionSet, name, description string, t *ast.Type, fallback *ast.Value) (any, error) {
	return g.object(set, "__InputValue", func(f *ast.Field) (any, error) {
		switch {
		case f.Name == "type":
			return g.reference(f.SelectionSet, t)
		case f.Name == "defaultValue" && fallback != nil:
			return fallback.String(), nil
		}
		return described(f, name, description), nil
	})
}

func (g *graph) enumValue(set ast.SelectionSet, d *ast.EnumValueDefinition) (any, error) {
	return g.object(set, "__EnumValue", func(f *ast.Field) (any, error) { return described(f, d.Name, d.Description), nil })
}

func (g *graph) directive(set ast.SelectionSet, d *ast.DirectiveDefinition) (any, error) {
	return g.object(set, "__Directive", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "args":
			return g.takes(f.SelectionSet, d.Arguments)
		case "locations":
			return d.Locations, nil
		}
		return described(f, d.Name, d.Description), nil
	})
}

// said returns nil for no description.
func said(description string) any {
	if description == "" {
		return nil
	}
	return description
}
