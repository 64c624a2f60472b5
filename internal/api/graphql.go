package api

import (
	_ "embed"
	"encoding/json"
	"errors"
	"slices"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// graphSchemaText is what queries may ask for: the part of Cloudflare's analytics
// that there is data for. What is not in it is refused by name.
//
//go:embed graphql.graphqls
var graphSchemaText string

var graphSchema = gqlparser.MustLoadSchema(&ast.Source{Name: "graphql.graphqls", Input: graphSchemaText})

// Limits of one query. Its text is bounded by bodyBytesMax.
const (
	graphTokensMax = 1500 // checking a query takes time by the square of its fields
	graphNodesMax  = 20   // fields of accounts: each is a query of the database
	// graphFieldsMax counts the fields of fragments wherever these are spread: spread
	// in one another, a few lines of them stand for more fields than can ever be answered.
	graphFieldsMax = 5000
)

// graphBody is what clients of GraphQL send.
type graphBody struct {
	Query         string          `json:"query"`
	Variables     json.RawMessage `json:"variables"`
	OperationName string          `json:"operationName"`
	Extensions    json.RawMessage `json:"extensions"` // of the client's own
}

type graphAnswer struct {
	Data   any           `json:"data"`
	Errors gqlerror.List `json:"errors"`
}

// graph is one query under way.
type graph struct {
	*request
	variables map[string]any
	nodes     int
}

// accountFields are what an account can be asked for; a new one is a line here and
// a type in graphql.graphqls.
var accountFields = map[string]struct {
	scope   control.Scope
	resolve func(g *graph, account string, f *ast.Field) (any, error)
}{
	"logpushHealthAdaptiveGroups": {control.LogsRead, (*graph).logpushHealth},
}

// queryGraph answers as Cloudflare does: 200, with the errors where the data would be.
func (s *Server) queryGraph(r *request) (any, error) {
	var body graphBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	var answer graphAnswer
	data, err := r.query(body)
	list, isList := errors.AsType[gqlerror.List](err)
	e, isOurs := errors.AsType[*errs.Error](err)
	switch {
	case err == nil:
		answer.Data = data
	case isList:
		answer.Errors = list
	case isOurs:
		answer.Errors = gqlerror.List{gqlerror.Errorf("%s", e.Message)}
	default:
		return nil, err
	}
	text, err := json.Marshal(answer)
	return rawAnswer{contentType: "application/json", body: text}, err
}

func (r *request) query(body graphBody) (any, error) {
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: body.Query}, graphTokensMax)
	if err != nil {
		return nil, gqlerror.List{gqlerror.Wrap(err)}
	}
	if list := validator.ValidateWithRules(graphSchema, document, rules.NewDefaultRules()); len(list) > 0 {
		return nil, list
	}
	operation := document.Operations.ForName(body.OperationName)
	if operation == nil {
		return nil, errs.New(errs.Invalid, 0, "operationName is %q: the query has no such operation, or several", shown(body.OperationName))
	}
	if countFields(operation.SelectionSet, map[*ast.FragmentDefinition]int{}) > graphFieldsMax {
		return nil, errs.New(errs.Invalid, 0, "the query asks for more than %d fields, counting those of fragments wherever they are spread", graphFieldsMax)
	}
	var given map[string]any
	if len(body.Variables) > 0 && json.Unmarshal(body.Variables, &given) != nil {
		return nil, errs.New(errs.Invalid, 0, "variables must be an object")
	}
	variables, err := validator.VariableValues(graphSchema, operation, given)
	if err != nil {
		return nil, gqlerror.List{gqlerror.Wrap(err)}
	}
	g := &graph{request: r, variables: variables}
	return g.object(operation.SelectionSet, "Query", func(f *ast.Field) (any, error) {
		return g.object(f.SelectionSet, "Viewer", g.accounts)
	})
}

// object resolves the fields of a selection. Introspection is refused but for the
// names of types, which some clients always ask for.
func (g *graph) object(set ast.SelectionSet, name string, resolve func(*ast.Field) (any, error)) (map[string]any, error) {
	out := map[string]any{}
	fields, err := merged(set)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if f.Name == "__typename" {
			out[f.Alias] = name
			continue
		}
		if f.Name == "__schema" || f.Name == "__type" {
			return nil, errs.New(errs.Invalid, 0, "%s is not answered: docs/logpush.md has the schema", f.Name)
		}
		value, err := resolve(f)
		if err != nil {
			return nil, err
		}
		out[f.Alias] = value
	}
	return out, nil
}

// merged returns the fields of a selection, each once: what is selected twice under
// one name is one field with the selections of both, as GraphQL has it.
func merged(set ast.SelectionSet) (fields []*ast.Field, err error) {
	places := map[string]int{}
	err = each(set, func(f *ast.Field) error {
		at, ok := places[f.Alias]
		if !ok {
			places[f.Alias] = len(fields)
			fields = append(fields, f)
			return nil
		}
		both := *fields[at]
		both.SelectionSet = slices.Concat(both.SelectionSet, f.SelectionSet)
		fields[at] = &both
		return nil
	})
	return fields, err
}

// countFields returns how many fields a selection asks for, and something above
// graphFieldsMax where there are more. Each fragment is looked at once; no fragment
// spreads itself in a valid query.
func countFields(set ast.SelectionSet, known map[*ast.FragmentDefinition]int) (n int) {
	for _, selection := range set {
		switch s := selection.(type) {
		case *ast.Field:
			n += 1 + countFields(s.SelectionSet, known)
		case *ast.InlineFragment:
			n += countFields(s.SelectionSet, known)
		case *ast.FragmentSpread:
			count, ok := known[s.Definition]
			if !ok {
				count = countFields(s.Definition.SelectionSet, known)
				known[s.Definition] = count
			}
			n += count
		}
		n = min(n, graphFieldsMax+1) // sums stay far from the largest int
	}
	return n
}

// each calls do for the fields of a selection, those of its fragments among them.
func each(set ast.SelectionSet, do func(*ast.Field) error) error {
	for _, selection := range set {
		var err error
		var directives ast.DirectiveList
		switch s := selection.(type) {
		case *ast.Field:
			if directives = s.Directives; len(directives) == 0 {
				err = do(s)
			}
		case *ast.InlineFragment:
			if directives = s.Directives; len(directives) == 0 {
				err = each(s.SelectionSet, do)
			}
		case *ast.FragmentSpread:
			if directives = s.Directives; len(directives) == 0 {
				err = each(s.Definition.SelectionSet, do)
			}
		}
		if len(directives) > 0 {
			return errs.New(errs.Invalid, 0, "the directive @%s is not supported", directives[0].Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// accounts is a list of one: the account that the filter names, as the token allows.
func (g *graph) accounts(f *ast.Field) (any, error) {
	filter, _ := f.ArgumentMap(g.variables)["filter"].(map[string]any)
	account, _ := filter["accountTag"].(string)
	if err := g.server.bind(g.ctx, g.token, account); err != nil {
		return nil, err
	}
	one, err := g.object(f.SelectionSet, "Account", func(f *ast.Field) (any, error) {
		if f.Name == "accountTag" {
			return account, nil
		}
		if g.nodes++; g.nodes > graphNodesMax {
			return nil, errs.New(errs.Invalid, 0, "the query asks for more than %d groups", graphNodesMax)
		}
		field := accountFields[f.Name]
		if err := (access{scopes: []control.Scope{field.scope}}).check(g.token); err != nil {
			return nil, err
		}
		return field.resolve(g, account, f)
	})
	return []any{one}, err
}
