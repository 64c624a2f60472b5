package api

import (
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/core"
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

const graphPath = "/graphql"

// Limits of one query. Its text is bounded by bodyBytesMax.
const (
	graphTokensMax = 1500 // checking a query takes time by the square of its fields
	graphNodesMax  = 20   // fields of accounts: each is a query of the database
	// graphFieldsMax counts the fields of fragments wherever these are spread: spread
	// in one another, a few lines of them stand for more fields than can ever be answered.
	graphFieldsMax = 5000
	// graphWorkMax bounds what one query looks at: its fields times the groups that are
	// answered. It is twice 10,000 groups with all of their fields, some 100 MB in memory.
	graphWorkMax = 1_000_000
)

// graphBody is what clients of GraphQL send.
type graphBody struct {
	Query         string          `json:"query"`
	Variables     json.RawMessage `json:"variables"`
	OperationName string          `json:"operationName"`
	Extensions    json.RawMessage `json:"extensions"` // of the client's own
}

type graphAnswer struct {
	Data   any          `json:"data"`
	Errors []graphError `json:"errors"`
}

// graphError is an error as Cloudflare's analytics have it.
type graphError struct {
	Message    string              `json:"message"`
	Path       []string            `json:"path"`
	Locations  []gqlerror.Location `json:"locations,omitempty"`
	Extensions graphExtensions     `json:"extensions"`
}

type graphExtensions struct {
	Timestamp timestamp `json:"timestamp"`
}

// pathError is an error of one field of an account.
type pathError struct {
	path []string
	error
}

func (e *pathError) Unwrap() error { return e.error }

// graph is one query under way.
type graph struct {
	*request
	variables map[string]any
	nodes     int
	work      int // selections that were looked at, each time anew
}

// accountFields are what an account can be asked for; a new one is a line here and
// a type in graphql.graphqls.
var accountFields = map[string]struct {
	scope   control.Scope
	resolve func(g *graph, account string, f *ast.Field) (any, error)
}{
	"logpushHealthAdaptiveGroups": {control.LogsRead, (*graph).logpushHealth},
	"workersInvocationsAdaptive":  {control.ScriptsRead, (*graph).invocations},
}

// queryGraph answers a query, or says in GraphQL's shape why it cannot be answered, with
// Cloudflare's statuses and, where they are known, its words
// (developers.cloudflare.com/analytics/graphql-api/errors).
func (s *Server) queryGraph(r *request) (any, error) {
	var body graphBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	var answer graphAnswer
	status := http.StatusOK
	data, err := r.query(body)
	add := func(message string, path []string, locations []gqlerror.Location) {
		answer.Errors = append(answer.Errors, graphError{message, path, locations, graphExtensions{timestamp(s.now())}})
	}
	list, isList := errors.AsType[gqlerror.List](err)
	e, isOurs := errors.AsType[*errs.Error](err)
	switch {
	case err == nil:
		answer.Data = data
	case isList:
		status = http.StatusBadRequest
		for _, one := range list {
			add(wordsOfRule(one), nil, one.Locations)
		}
	case isOurs:
		status = answers[e.Kind].status
		var path []string
		if at, ok := errors.AsType[*pathError](err); ok {
			path = at.path
		}
		add(e.Message, path, nil)
	default:
		return nil, err
	}
	text, err := json.Marshal(answer)
	return rawAnswer{status: status, contentType: "application/json", body: text}, err
}

// wordsOfRule says which of Cloudflare's errors one of the library's is.
func wordsOfRule(e *gqlerror.Error) string {
	switch e.Rule {
	case rules.FieldsOnCorrectTypeRule.Name:
		return "unknown field: " + e.Message
	case rules.ScalarLeafsRule.Name:
		if strings.Contains(e.Message, "must not") {
			return "scalar fields must have no selections: " + e.Message
		}
		return "object field must have selections: " + e.Message
	case rules.KnownArgumentNamesRule.Name, rules.ProvidedRequiredArgumentsRule.Name, rules.ValuesOfCorrectTypeRule.Name, rules.VariablesInAllowedPositionRule.Name:
		return "error parsing args: " + e.Message
	}
	return e.Message
}

// graphRules are those of GraphQL, but for the types of variables. Published queries
// declare $since: String or $since: string for what is a Time!, and Cloudflare takes them.
// So a variable of any scalar may stand where a scalar is wanted, and one value where a list
// is; what is in it is looked at when it is used.
func graphRules() *rules.Rules {
	r := rules.NewDefaultRules()
	r.ReplaceRule(rules.VariablesInAllowedPositionRule.Name, func(observers *core.Events, addError core.AddErrFunc) {
		observers.OnValue(func(_ *core.Walker, value *ast.Value) {
			if value.Kind != ast.Variable || value.ExpectedType == nil || value.VariableDefinition == nil || value.VariableDefinition.Definition == nil {
				return
			}
			is, want := value.VariableDefinition, value.ExpectedType
			scalars := is.Definition.Kind == ast.Scalar && graphSchema.Types[want.Name()].Kind == ast.Scalar
			if is.Type.Name() != want.Name() && !scalars || !elementsFit(is.Type, want) {
				addError(core.Message("Variable %q of type %q used in position expecting type %q.", value.String(), is.Type.String(), want.String()), core.At(value.Position))
			}
		})
	})
	return r
}

// elementsFit reports whether a variable is no deeper a list than what is wanted, and its
// elements are never null where those that are wanted are not.
func elementsFit(is, want *ast.Type) bool {
	for ; is.Elem != nil; is, want = is.Elem, want.Elem {
		if want.Elem == nil || want.Elem.NonNull && !is.Elem.NonNull {
			return false
		}
	}
	return true
}

func (r *request) query(body graphBody) (any, error) {
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: body.Query}, graphTokensMax)
	if err != nil {
		return nil, gqlerror.List{gqlerror.Wrap(err)}
	}
	if list := validator.ValidateWithRules(graphSchema, document, graphRules()); len(list) > 0 {
		return nil, list
	}
	operation := document.Operations.ForName(body.OperationName)
	if operation == nil {
		return nil, errs.New(errs.Invalid, 0, "operationName is %q: the query has no such operation, or several", shown(body.OperationName))
	}
	if countFields(operation.SelectionSet, map[*ast.FragmentDefinition]int{}) > graphFieldsMax {
		return nil, errs.New(errs.Invalid, 0, "number of fields can't be more than %d, counting those of fragments wherever they are spread", graphFieldsMax)
	}
	var given map[string]any
	if len(body.Variables) > 0 && json.Unmarshal(body.Variables, &given) != nil {
		return nil, errs.New(errs.Invalid, 0, "variables must be an object")
	}
	variables, err := validator.VariableValues(graphSchema, operation, given)
	if err != nil {
		return nil, gqlerror.List{gqlerror.Wrap(err)}
	}
	for name, value := range variables {
		variables[name] = plainLists(value)
	}
	g := &graph{request: r, variables: variables}
	return g.object(operation.SelectionSet, "Query", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "__schema":
			return g.wholeSchema(f.SelectionSet)
		case "__type":
			return g.namedType(f)
		}
		return g.object(f.SelectionSet, "Viewer", g.accounts)
	})
}

// plainLists makes lists of anything of those that the library has made of single values,
// which are lists of the value's own type.
func plainLists(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = plainLists(member)
		}
	case []any:
		for i, element := range v {
			v[i] = plainLists(element)
		}
	default:
		if typed := reflect.ValueOf(value); typed.Kind() == reflect.Slice {
			list := make([]any, typed.Len())
			for i := range list {
				list[i] = plainLists(typed.Index(i).Interface())
			}
			return list
		}
	}
	return value
}

// object resolves the fields of a selection.
func (g *graph) object(set ast.SelectionSet, name string, resolve func(*ast.Field) (any, error)) (map[string]any, error) {
	out := map[string]any{}
	fields, err := g.merged(set)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if f.Name == "__typename" {
			out[f.Alias] = name
			continue
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
func (g *graph) merged(set ast.SelectionSet) (fields []*ast.Field, err error) {
	places := map[string]int{}
	err = g.each(set, func(f *ast.Field) error {
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

// each calls do for the fields of a selection that are wanted, those of its fragments
// among them. It counts what it looks at, wanted or not, and ends at graphWorkMax.
func (g *graph) each(set ast.SelectionSet, do func(*ast.Field) error) error {
	for _, selection := range set {
		if g.work++; g.work > graphWorkMax {
			return errs.New(errs.Invalid, 0, "the answer would have too many values: lower limit, or ask for fewer fields")
		}
		if g.work%4096 == 0 && g.ctx.Err() != nil { // nobody waits for the answer
			return g.ctx.Err()
		}
		var directives ast.DirectiveList
		var next func() error
		switch s := selection.(type) {
		case *ast.Field:
			directives, next = s.Directives, func() error { return do(s) }
		case *ast.InlineFragment:
			directives, next = s.Directives, func() error { return g.each(s.SelectionSet, do) }
		case *ast.FragmentSpread:
			directives, next = s.Directives, func() error { return g.each(s.Definition.SelectionSet, do) }
		}
		wanted, err := g.wanted(directives)
		if err == nil && wanted {
			err = next()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether @include and @skip let through what they stand at.
func (g *graph) wanted(directives ast.DirectiveList) (bool, error) {
	wanted := true
	for _, d := range directives {
		given, ok := d.ArgumentMap(g.variables)["if"].(bool)
		switch {
		case d.Name != "include" && d.Name != "skip":
			return false, errs.New(errs.Invalid, 0, "the directive @%s is not supported", d.Name)
		case !ok:
			return false, errs.New(errs.Invalid, 0, "error parsing args: the directive @%s needs true or false", d.Name)
		}
		wanted = wanted && given == (d.Name == "include")
	}
	return wanted, nil
}

// arguments of a field, without those that were not given.
func (g *graph) arguments(f *ast.Field) (map[string]any, error) {
	// The library ends with a panic where a number is too large for it.
	for _, a := range f.Arguments {
		if _, err := a.Value.Value(g.variables); err != nil {
			return nil, errs.New(errs.Invalid, 0, "error parsing args: %s: %v", a.Name, err)
		}
	}
	return f.ArgumentMap(g.variables), nil
}

// accounts is a list of one: the account that the filter names, as the caller's rights allow.
func (g *graph) accounts(f *ast.Field) (any, error) {
	arguments, err := g.arguments(f)
	if err != nil {
		return nil, err
	}
	filter, _ := arguments["filter"].(map[string]any)
	account, _ := filter["accountTag"].(string)
	if account == "" {
		return nil, errs.New(errs.Invalid, 0, "error parsing args: filter: accountTag must be the id of an account")
	}
	if err := g.server.bind(g.ctx, g.caller, account); err != nil {
		return nil, inWords("not authorized for that account", errs.Forbidden, err)
	}
	one, err := g.object(f.SelectionSet, "Account", func(f *ast.Field) (any, error) {
		if f.Name == "accountTag" {
			return account, nil
		}
		if g.nodes++; g.nodes > graphNodesMax {
			return nil, errs.New(errs.Invalid, 0, "in combination, your request queries too many nodes: more than %d", graphNodesMax)
		}
		field := accountFields[f.Name]
		value, err := any(nil), (access{scopes: []control.Scope{field.scope}}).check(g.rights, account)
		if err == nil {
			value, err = field.resolve(g, account, f)
		}
		if err != nil {
			return nil, &pathError{[]string{"viewer", "accounts", "0", f.Alias}, inWords("does not have access to the path", errs.Forbidden, err)}
		}
		return value, nil
	})
	return []any{one}, err
}

// turn waits until groups of an account may be read, which take much memory or ask ClickHouse.
// The caller ends it.
func (g *graph) turn(account string) (end func(), err error) {
	end, err = g.server.question(g.ctx, account)
	return end, inWords("too many queries in progress, please try again later", errs.Unavailable, err)
}

// inWords puts Cloudflare's words before those of an error of a kind.
func inWords(words string, kind errs.Kind, err error) error {
	if e, ok := errors.AsType[*errs.Error](err); ok && e.Kind == kind {
		return errs.New(kind, e.Code, "%s: %s", words, e.Message)
	}
	return err
}
