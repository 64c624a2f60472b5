package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	codeInherit      = 10057 // Cloudflare: an inherit binding is invalid
	codeBindingTaken = 10053 // Cloudflare: the name is that of a binding of another type
	codeNoBinding    = 10056 // Cloudflare: there is no such binding
	bindingNameBytes = 256
	bindingSecretKey = "secret_key" // does not run here; clients name it beside secret_text
)

// sentBinding is a binding as clients write it.
type sentBinding struct {
	Name        string          `json:"name"`
	Type        string          `json:"type"`
	Text        *string         `json:"text"`
	JSON        json.RawMessage `json:"json"`
	Part        *string         `json:"part"`
	Service     *string         `json:"service"`
	Environment *string         `json:"environment"`
	Entrypoint  *string         `json:"entrypoint"`
	Props       json.RawMessage `json:"props"`
	CrossGrant  *string         `json:"cross_account_grant"`
	ClassName   *string         `json:"class_name"`   // of durable_object_namespace
	ScriptName  *string         `json:"script_name"`  // of durable_object_namespace
	NamespaceID *string         `json:"namespace_id"` // of durable_object_namespace; found by the class if it is absent
	OldName     *string         `json:"old_name"`     // of inherit
	VersionID   *string         `json:"version_id"`   // of inherit
}

// runsHere says which member a type of binding needs.
var runsHere = map[string]string{
	deploy.BindingPlainText: "text", deploy.BindingJSON: "json", deploy.BindingSecretText: "text", deploy.BindingService: "service",
	deploy.BindingVersionMetadata: "", deploy.BindingWasmModule: "part", deploy.BindingTextBlob: "part", deploy.BindingDataBlob: "part",
	deploy.BindingDurableObject: "class_name", deploy.BindingInherit: "",
}

// bindingsAt is the place of the bindings in an upload.
var bindingsAt = place{}.member("bindings")

// decodeBindings reads the bindings of an upload.
func decodeBindings(list []json.RawMessage) ([]sentBinding, error) {
	at := bindingsAt
	sent := make([]sentBinding, len(list))
	seen := make(map[string]bool, len(list))
	for i, text := range list {
		b, err := decodeBinding(text, nil, at.element(i))
		if err != nil {
			return nil, err
		}
		if seen[b.Name] {
			return nil, at.element(i).fail("binding %s appears twice", shown(b.Name))
		}
		seen[b.Name], sent[i] = true, b
	}
	return sent, nil
}

// inheritBare turns bindings that have a name and a type alone, although the type
// needs more, into inherit ones: so do older wranglers say in settings that a
// binding stays as it is.
func inheritBare(list []json.RawMessage) error {
	for i, text := range list {
		all := make(map[string]json.RawMessage)
		if err := decodeAt(text, &all, bindingsAt.element(i)); err != nil {
			return err
		}
		var kind string
		if len(all) != 2 || all["name"] == nil || json.Unmarshal(all["type"], &kind) != nil || runsHere[kind] == "" {
			continue // judged with the rest
		}
		all["type"] = json.RawMessage(`"` + deploy.BindingInherit + `"`)
		var err error
		if list[i], err = json.Marshal(all); err != nil {
			return err
		}
	}
	return nil
}

// decodeBinding reads one binding. Its name is given where it is not a member.
func decodeBinding(text json.RawMessage, name *string, at place) (sentBinding, error) {
	var head struct {
		Name *string `json:"name"`
		Type string  `json:"type"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return sentBinding{}, at.fail("must be an object with the texts name and type")
	}
	switch {
	case name == nil:
		name = head.Name
	case head.Name != nil && *head.Name != *name:
		return sentBinding{}, at.member("name").fail("is %q, but the binding stands under %q", shown(*head.Name), shown(*name))
	}
	if name == nil || !validBindingName(*name) {
		return sentBinding{}, at.member("name").fail("must have 1 to %d bytes and no control characters", bindingNameBytes)
	}
	if _, ok := runsHere[head.Type]; !ok {
		return sentBinding{}, unsupportedBinding(*name, head.Type, at)
	}
	var b sentBinding
	if err := decodeAt(text, &b, at); err != nil {
		return b, err
	}
	b.Name = *name
	return b, b.check(at)
}

func unsupportedBinding(name, kind string, at place) error {
	if kind == "" {
		return errs.New(errs.Invalid, 0, "binding %s has no type", shown(name)).At(at.member("type").pointer())
	}
	return errs.New(errs.Invalid, 0, "binding %s: type %s is not supported yet", shown(name), shown(kind)).At(at.member("type").pointer())
}

func validBindingName(name string) bool {
	return name != "" && len(name) <= bindingNameBytes && !strings.ContainsFunc(name, unicode.IsControl)
}

// check holds the binding to what its type needs, and refuses what cannot be honoured.
func (b *sentBinding) check(at place) error {
	given := map[string]bool{"text": b.Text != nil, "json": b.JSON != nil, "part": b.Part != nil, "service": b.Service != nil, "class_name": b.ClassName != nil}
	if need := runsHere[b.Type]; need != "" && !given[need] {
		return at.member(need).fail("is missing: binding %s of type %s needs it", shown(b.Name), b.Type)
	}
	refuse := func(member, why string) error {
		return errs.New(errs.Invalid, 0, "binding %s: %s %s", shown(b.Name), member, why).At(at.member(member).pointer())
	}
	switch {
	case b.Environment != nil && *b.Environment != "" && *b.Environment != production:
		return refuse("environment", fmt.Sprintf("%q does not exist: there is only %q", shown(*b.Environment), production))
	case b.CrossGrant != nil && *b.CrossGrant != "":
		return refuse("cross_account_grant", "is not supported yet: a service is a script of the same account")
	case holds(b.Props) && b.Props[0] != '{':
		return refuse("props", "must be an object")
	case b.Service != nil && checkScriptName(*b.Service) != nil:
		return refuse("service", fmt.Sprintf("%q is not a name of a script", shown(*b.Service)))
	}
	return nil
}

// binding is what is stored of b, which is not an inherit one.
func (b *sentBinding) binding() deploy.Binding {
	out := deploy.Binding{Name: b.Name, Type: b.Type}
	switch b.Type {
	case deploy.BindingPlainText, deploy.BindingSecretText:
		out.Text = *b.Text
	case deploy.BindingJSON:
		out.JSON = b.JSON
	case deploy.BindingService:
		out.Service = *b.Service
		if b.Entrypoint != nil {
			out.Entrypoint = *b.Entrypoint
		}
		if holds(b.Props) {
			out.Props = b.Props
		}
	case deploy.BindingWasmModule, deploy.BindingTextBlob, deploy.BindingDataBlob:
		out.Part = *b.Part
	case deploy.BindingDurableObject:
		out.ClassName, out.ScriptName, out.NamespaceID = *b.ClassName, value(b.ScriptName), value(b.NamespaceID)
	}
	return out
}

// value is what p points to; "" for nil.
func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// earlier is what an upload may take over from.
type earlier struct {
	script string
	newest *deploy.Version                         // nil when there is none
	find   func(id string) (deploy.Version, error) // a version of the script
	strict bool                                    // refuse what cannot be inherited instead of leaving it out
}

// resolve returns the bindings of a version, in the order of their names: those
// that were sent, those that they inherit, and those of the newest version whose
// types are kept.
func (e earlier) resolve(sent []sentBinding, keep func(kind string) bool) ([]deploy.Binding, error) {
	named := make(map[string]bool, len(sent))
	var list []deploy.Binding
	var refusals []error
	for i := range sent {
		named[sent[i].Name] = true
		if sent[i].Type != deploy.BindingInherit {
			list = append(list, sent[i].binding())
			continue
		}
		inherited, err := e.inherit(&sent[i])
		switch {
		case err == nil:
			list = append(list, inherited)
		case errs.KindOf(err) != errs.Invalid:
			return nil, err
		case e.strict:
			refusals = append(refusals, err)
		}
	}
	if len(refusals) > 0 {
		return nil, errors.Join(refusals...)
	}
	for _, b := range bindingsOf(e.newest) {
		if !named[b.Name] && keep(b.Type) {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b deploy.Binding) int { return strings.Compare(a.Name, b.Name) })
	return ownClasses(e.script, list), nil
}

func (e earlier) inherit(sent *sentBinding) (deploy.Binding, error) {
	// wrangler finds the name between these words.
	refuse := func(why string) (deploy.Binding, error) {
		return deploy.Binding{}, errs.New(errs.Invalid, codeInherit, "inherit binding '%s' is invalid: %s", sent.Name, why)
	}
	from, oldName := e.newest, sent.Name
	if sent.OldName != nil && *sent.OldName != "" {
		oldName = *sent.OldName
	}
	if id := sent.VersionID; id != nil && *id != "" && *id != "latest" {
		v, err := e.find(*id)
		if errs.KindOf(err) == errs.NotFound {
			return refuse(fmt.Sprintf("version %q does not exist", shown(*id)))
		}
		if err != nil {
			return deploy.Binding{}, err
		}
		from = unresolved(&v)
	}
	for _, b := range bindingsOf(from) {
		if b.Name == oldName {
			b.Name = sent.Name
			return b, nil
		}
	}
	return refuse(fmt.Sprintf("there is no earlier binding %q", shown(oldName)))
}

func bindingsOf(v *deploy.Version) []deploy.Binding {
	if v == nil || v.Worker == nil {
		return nil
	}
	return v.Worker.Bindings
}

// kept tells which types of bindings an upload keeps from the newest version.
// Secrets survive uploads that do not mention them, because no client has their
// text. A list that names one kind of secrets means to leave the other kind out: it
// is how older wranglers delete a secret.
func kept(list []string) func(kind string) bool {
	namesText, namesKey := slices.Contains(list, deploy.BindingSecretText), slices.Contains(list, bindingSecretKey)
	return func(kind string) bool {
		if kind == deploy.BindingSecretText {
			return namesText || !namesKey
		}
		return slices.Contains(list, kind)
	}
}

// checkParts refuses bindings to modules that are not there.
func checkParts(w *deploy.Worker) error {
	for _, b := range w.Bindings {
		if b.Part != "" && !slices.ContainsFunc(w.Modules, func(m deploy.Module) bool { return m.Name == b.Part }) {
			return errs.New(errs.Invalid, codeBadScript, "binding %s: part %q is not among the modules of the upload", shown(b.Name), shown(b.Part))
		}
	}
	return nil
}

// bindingView is a binding in an answer: never with the text of a secret.
type bindingView struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Text       *string         `json:"text,omitempty"`
	JSON       json.RawMessage `json:"json,omitempty"`
	Part       string          `json:"part,omitempty"`
	Service    string          `json:"service,omitempty"`
	Entrypoint string          `json:"entrypoint,omitempty"`
	Props      json.RawMessage `json:"props,omitempty"`
	// Of a durable_object_namespace.
	ClassName   string `json:"class_name,omitempty"`
	ScriptName  string `json:"script_name,omitempty"` // none for the own script
	NamespaceID string `json:"namespace_id,omitempty"`
}

func viewBinding(b deploy.Binding) bindingView {
	view := bindingView{
		Name: b.Name, Type: b.Type, JSON: b.JSON, Part: b.Part, Service: b.Service, Entrypoint: b.Entrypoint, Props: b.Props,
		ClassName: b.ClassName, ScriptName: b.ScriptName, NamespaceID: b.NamespaceID,
	}
	if b.Type == deploy.BindingPlainText {
		view.Text = &b.Text
	}
	return view
}
