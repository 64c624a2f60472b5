package logjob

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/schema"
)

// The tables of docs/logpush.md are those of the code.
func TestDocumentedFieldsAreTheTables(t *testing.T) {
	text, err := os.ReadFile("../../docs/logpush.md")
	if err != nil {
		t.Fatal(err)
	}
	var fields, members strings.Builder
	for _, f := range schema.Fields {
		mark := ""
		if f.Extension {
			mark = " (ours)"
		}
		fmt.Fprintf(&fields, "| `%s`%s | %s | %s |\n", f.Name, mark, f.Type, f.Description)
	}
	for _, m := range schema.Members {
		fmt.Fprintf(&members, "| `%s` | %s |\n", m.Path, m.Type)
	}
	for header, want := range map[string]string{
		"| Field | Type | Means |\n|---|---|---|\n": fields.String(),
		"| Key | Type |\n|---|---|\n":               members.String(),
	} {
		_, rest, found := strings.Cut(string(text), header)
		got, _, _ := strings.Cut(rest, "\n\n")
		if diff := cmp.Diff(want, got+"\n"); !found || diff != "" {
			t.Errorf("docs/logpush.md, table %q (-want +got):\n%s", header, diff)
		}
	}
}
