package published

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

const sdkModule = "github.com/cloudflare/cloudflare-go/v7"

// sdkServices are the packages of the SDK whose calls we look at.
var sdkServices = []string{"accounts", "durable_objects", "kv", "logpush", "memberships", "user", "workers", "zones"}

// sdk is the source of cloudflare-go, read without compiling it: calls are plain
// there, one method for each, with the path in a Sprintf.
type sdk struct {
	dir      string
	packages map[string]*sdkPackage // by folder
	shapes   map[string]*shape      // by the type's full name
}

type sdkPackage struct {
	folder  string
	name    string
	imports map[string]string // the folder of a package of the SDK, by its name
	types   map[string]*ast.TypeSpec
	values  map[string][]string // the constants of a type
	methods []*ast.FuncDecl
}

// call is one call of the API as the SDK makes it.
type call struct {
	name   string // such as workers.DomainService.Get
	method string
	path   []string // segments; "*" stands for any
	body   *shape   // nil if it is no JSON
}

// shape is what the published schema says of a JSON value.
type shape struct {
	kind    string // a type of JSON Schema; empty for any
	members map[string]member
	items   *shape   // of an array
	rest    *shape   // of an object, for members that it does not name
	values  []string // that an enumeration allows; empty for any
}

type member struct {
	*shape
	required, nullable bool
}

// readSDK reads the release that test/sdk/go.mod names.
func readSDK() (*sdk, error) {
	var stderr bytes.Buffer
	command := exec.Command("go", "mod", "download", "-json", sdkModule)
	command.Dir, command.Stderr = filepath.Join("..", "sdk"), &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("find the SDK: %w\n%s%s", err, out, stderr.Bytes())
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, fmt.Errorf("find the SDK: %w in %s", err, out)
	}
	return &sdk{dir: module.Dir, packages: map[string]*sdkPackage{}, shapes: map[string]*shape{}}, nil
}

// calls returns the calls of sdkServices.
func (s *sdk) calls() ([]call, error) {
	var all []call
	for _, folder := range sdkServices {
		p, err := s.load(folder)
		if err != nil {
			return nil, err
		}
		for _, method := range p.methods {
			c, ok, err := s.call(p, method)
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %w", p.name, method.Name.Name, err)
			}
			if ok {
				all = append(all, c)
			}
		}
	}
	if len(all) < 100 {
		return nil, fmt.Errorf("only %d calls were understood: the SDK is written in another way now", len(all))
	}
	return all, nil
}

func (s *sdk) load(folder string) (*sdkPackage, error) {
	if p := s.packages[folder]; p != nil {
		return p, nil
	}
	files, err := filepath.Glob(filepath.Join(s.dir, folder, "*.go"))
	if err != nil {
		return nil, err
	}
	p := &sdkPackage{folder: folder, imports: map[string]string{}, types: map[string]*ast.TypeSpec{}, values: map[string][]string{}}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if err := p.add(file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if p.name == "" {
		return nil, fmt.Errorf("the SDK has no package %s", folder)
	}
	s.packages[folder] = p
	return p, nil
}

func (p *sdkPackage) add(file *ast.File) error {
	p.name = file.Name.Name
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if folder, ours := strings.CutPrefix(path, sdkModule+"/"); ours {
			p.imports[filepath.Base(folder)] = folder
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil && d.Name.IsExported() {
				p.methods = append(p.methods, d)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					p.types[spec.Name.Name] = spec
				case *ast.ValueSpec:
					p.addConstants(spec)
				}
			}
		}
	}
	return nil
}

// addConstants keeps the values of an enumeration.
func (p *sdkPackage) addConstants(spec *ast.ValueSpec) {
	named, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, value := range spec.Values {
		switch v := value.(type) {
		case *ast.BasicLit:
			text := v.Value
			if unquoted, err := strconv.Unquote(text); err == nil {
				text = unquoted
			}
			p.values[named.Name] = append(p.values[named.Name], text)
		case *ast.Ident: // true, false
			p.values[named.Name] = append(p.values[named.Name], v.Name)
		}
	}
}

var verb = regexp.MustCompile(`%[sv]`)

// call reads a method; it reports whether that makes a call.
func (s *sdk) call(p *sdkPackage, method *ast.FuncDecl) (call, bool, error) {
	receiver, ok := method.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return call{}, false, nil
	}
	service, ok := receiver.X.(*ast.Ident)
	if !ok || !strings.HasSuffix(service.Name, "Service") {
		return call{}, false, nil
	}
	c := call{name: p.name + "." + service.Name + "." + method.Name.Name}
	variables := map[string]typeRef{} // by name: what may be decoded into
	for _, result := range method.Type.Results.List {
		for _, name := range result.Names {
			variables[name.Name] = typeRef{p, result.Type, nil}
		}
	}
	var path string
	var target ast.Expr
	ast.Inspect(method.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for _, name := range n.Names {
				variables[name.Name] = typeRef{p, n.Type, nil}
			}
		case *ast.AssignStmt:
			if left, ok := n.Lhs[0].(*ast.Ident); ok && left.Name == "path" {
				path = firstString(n.Rhs[0])
			}
		case *ast.CallExpr:
			if called := selected(n.Fun); called == "ExecuteNewRequest" || called == "NewRequestConfig" {
				c.method = strings.ToUpper(strings.TrimPrefix(selected(n.Args[1]), "Method"))
				target = n.Args[4]
			}
		}
		return true
	})
	if c.method == "" {
		return call{}, false, nil
	}
	c.path = strings.Split(verb.ReplaceAllString(path, "*"), "/")
	if nothing, ok := target.(*ast.Ident); ok && nothing.Name == "nil" {
		return c, true, nil
	}
	answer, ok := variables[addressed(target)]
	if path == "" || !ok {
		return call{}, false, errors.New("its path or its answer was not understood")
	}
	var err error
	c.body, err = s.shape(answer)
	return c, true, err
}

// firstString returns the first string literal of an expression.
func firstString(expr ast.Expr) (text string) {
	ast.Inspect(expr, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && text == "" {
			if unquoted, err := strconv.Unquote(literal.Value); err == nil {
				text = unquoted
			}
		}
		return text == ""
	})
	return text
}

func selected(expr ast.Expr) string {
	if selector, ok := expr.(*ast.SelectorExpr); ok {
		return selector.Sel.Name
	}
	return ""
}

// addressed returns x of &x.
func addressed(expr ast.Expr) string {
	if unary, ok := expr.(*ast.UnaryExpr); ok {
		if variable, ok := unary.X.(*ast.Ident); ok {
			return variable.Name
		}
	}
	return ""
}

// typeRef is a type as it is written in a package, where names of type parameters
// stand for arguments.
type typeRef struct {
	in        *sdkPackage
	expr      ast.Expr
	arguments map[string]typeRef
}

// shape returns what a type says of JSON; nil for an answer that is none.
func (s *sdk) shape(t typeRef) (*shape, error) {
	switch e := t.expr.(type) {
	case *ast.StarExpr:
		return s.shape(typeRef{t.in, e.X, t.arguments})
	case *ast.InterfaceType:
		return &shape{}, nil
	case *ast.MapType:
		rest, err := s.shape(typeRef{t.in, e.Value, t.arguments})
		return &shape{kind: "object", rest: rest}, err
	case *ast.ArrayType:
		items, err := s.shape(typeRef{t.in, e.Elt, t.arguments})
		return &shape{kind: "array", items: items}, err
	case *ast.IndexExpr: // a page of something
		return s.generic(t, e)
	case *ast.SelectorExpr:
		return s.imported(t, e)
	case *ast.Ident:
		if argument, ok := t.arguments[e.Name]; ok {
			return s.shape(argument)
		}
		return s.named(t.in, e.Name)
	}
	return nil, fmt.Errorf("a type %T was not understood", t.expr)
}

func (s *sdk) imported(t typeRef, e *ast.SelectorExpr) (*shape, error) {
	from, ok := e.X.(*ast.Ident)
	if !ok {
		return nil, errors.New("a selector was not understood")
	}
	switch name := from.Name + "." + e.Sel.Name; name {
	case "time.Time":
		return &shape{kind: "string"}, nil
	case "http.Response":
		return nil, nil
	}
	p, err := s.load(t.in.imports[from.Name])
	if err != nil {
		return nil, err
	}
	return s.named(p, e.Sel.Name)
}

// generic returns the shape of a type with one argument.
func (s *sdk) generic(t typeRef, e *ast.IndexExpr) (*shape, error) {
	in, name := t.in, ""
	switch x := e.X.(type) {
	case *ast.Ident:
		name = x.Name
	case *ast.SelectorExpr:
		from, ok := x.X.(*ast.Ident)
		if !ok {
			return nil, errors.New("a selector was not understood")
		}
		var err error
		if in, err = s.load(t.in.imports[from.Name]); err != nil {
			return nil, err
		}
		name = x.Sel.Name
	}
	spec := in.types[name]
	if spec == nil || spec.TypeParams == nil {
		return nil, fmt.Errorf("%s.%s is not generic", in.name, name)
	}
	argument := typeRef{t.in, e.Index, t.arguments}
	if parameter, ok := e.Index.(*ast.Ident); ok {
		if outer, ok := t.arguments[parameter.Name]; ok {
			argument = outer
		}
	}
	out := &shape{}
	return out, s.fill(out, typeRef{in, spec.Type, map[string]typeRef{spec.TypeParams.List[0].Names[0].Name: argument}})
}

var basic = map[string]string{"string": "string", "bool": "boolean", "int64": "integer", "float64": "number"}

func (s *sdk) named(p *sdkPackage, name string) (*shape, error) {
	if kind, ok := basic[name]; ok {
		return &shape{kind: kind}, nil
	}
	key := p.folder + "." + name
	if known := s.shapes[key]; known != nil {
		return known, nil
	}
	spec := p.types[name]
	if spec == nil {
		return nil, fmt.Errorf("%s has no type %s", p.name, name)
	}
	out := &shape{}
	s.shapes[key] = out // before it is filled: types may be recursive
	if err := s.fill(out, typeRef{p, spec.Type, nil}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out.values = p.values[name]
	return out, nil
}

func (s *sdk) fill(out *shape, t typeRef) error {
	structure, ok := t.expr.(*ast.StructType)
	if !ok {
		other, err := s.shape(t)
		if other != nil {
			*out = *other
		}
		return err
	}
	out.kind, out.members = "object", map[string]member{}
	for _, field := range structure.Fields.List {
		if field.Tag == nil {
			continue // not of the JSON
		}
		text, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			return err
		}
		tag := reflect.StructTag(text)
		name, _, _ := strings.Cut(tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		is, err := s.shape(typeRef{t.in, field.Type, t.arguments})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m := member{shape: is}
		for word := range strings.SplitSeq(tag.Get("api"), ",") {
			m.required = m.required || word == "required"
			m.nullable = m.nullable || word == "nullable"
		}
		out.members[name] = m
	}
	return nil
}
