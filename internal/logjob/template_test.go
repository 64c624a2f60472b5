package logjob

import (
	"strings"
	"testing"
	texttemplate "text/template"

	"tidegate/schema"
)

// Whatever parseTemplate accepts, Go's text/template accepts too, and means the same.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		``, `text`, `{{.Outcome}}`, `{{ .Outcome }}`, "{{\n.Outcome\t}}", `"a":{{.Outcome}},"b":{{.Event}}`, `{{"}}"}}`, "{{`{{`}}", `{{ "\"\n" }}`,
		`{{/* note */}}x`, `a}}b`, `{`, `{{`, `{{}}`, `{{.}}`, `{{.Nope}}`, `{{.Event.RayID}}`, `{{- .Outcome -}}`, `{{if .Outcome}}{{end}}`, `{{len .Outcome}}`,
		`{{.Outcome | printf}}`, `{{$x := 1}}`, `{{5}}`, `{{'c'}}`, `{{/* a */ b */}}`, `{{ /* a */ }}`, `{{"a" "b"}}`, `{{"a`, `{{define "x"}}{{end}}`, `{{{.Outcome}}}`,
		`{{"\z"}}`, "{{\"\n\"}}",
	} {
		f.Add(seed)
	}
	values := map[string]string{}
	for _, field := range schema.Fields {
		values[field.Name] = "<" + field.Name + ">"
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := parseTemplate(text)
		if err != nil {
			return
		}
		var got, want strings.Builder
		for _, p := range parts {
			if p.text != "" {
				got.WriteString(p.text)
			} else {
				got.WriteString(values[p.field])
			}
		}
		reference, err := texttemplate.New("").Parse(text)
		if err != nil {
			t.Fatalf("accepted %q, which text/template refuses: %v", text, err)
		}
		if err := reference.Execute(&want, values); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Fatalf("%q gives %q, want %q", text, got.String(), want.String())
		}
	})
}

func TestTemplatesWithOtherTokensAreRefused(t *testing.T) {
	for _, text := range []string{
		`{{`, `{{}}`, `{{.}}`, `{{.Nope}}`, `{{.Event.RayID}}`, `{{- .Outcome -}}`, `{{if .Outcome}}x{{end}}`, `{{len .Outcome}}`,
		`{{.Outcome | len}}`, `{{$x := 1}}`, `{{5}}`, `{{'c'}}`, `{{"a" "b"}}`, `{{"a`, `{{"\z"}}`, `{{/* open`, `{{true}}`, `{{Outcome}}`,
	} {
		if parts, err := parseTemplate(text); err == nil {
			t.Errorf("template %s was accepted as %v", text, parts)
		}
	}
}
