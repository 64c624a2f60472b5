package apidocs

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"tidegate/schema"
)

var update = flag.Bool("update", false, "write docs/api.md instead of comparing")

func TestPageIsThatOfTheContract(t *testing.T) {
	const path = "../../docs/api.md"
	doc, err := openapi3.NewLoader().LoadFromData(schema.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	page := Page(doc)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !strings.Contains(page, "\n### "+method+" `"+path+"`\n") {
				t.Errorf("the page has no %s %s: its first tag is not in the list of tags", method, path)
			}
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != page {
		t.Errorf("docs/api.md is not what schema/openapi.yaml says (%v): go test ./test/apidocs -update", err)
	}
}
