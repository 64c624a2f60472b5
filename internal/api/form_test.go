package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const fuzzBoundary = "multipart/form-data; boundary=x"

// formText writes parts as they travel.
func formText(parts ...[3]string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--x\r\nContent-Disposition: form-data; " + p[0] + "\r\n")
		if p[1] != "" {
			b.WriteString("Content-Type: " + p[1] + "\r\n")
		}
		b.WriteString("\r\n" + p[2] + "\r\n")
	}
	return b.String() + "--x--\r\n"
}

// FuzzReadForm: whatever arrives, a form is read or refused in words for its
// sender, and no module gets a name that leaves its folder.
func FuzzReadForm(f *testing.F) {
	f.Add(formText([3]string{`name="metadata"`, "", `{"main_module": "a.js"}`}, [3]string{`name="lib/a.js"; filename="lib/a.js"`, deploy.ModuleTypeESM, "export default {}"}))
	f.Add(formText([3]string{`name="metadata.bindings.0.name"`, "", "A"}, [3]string{`name="metadata.bindings"`, "", "B"}))
	f.Add(formText([3]string{`name="files.0"; filename="../a"`, "text/plain", ""}, [3]string{`name="a\\b"`, "text/x-python", ""}))
	f.Add(formText([3]string{`name="metadata.a.1"`, "", ""}, [3]string{`name="metadata.a.0"`, "", ""}, [3]string{`name="metadata.limits.cpu_ms"`, "", "1e999"}))
	f.Add("--x\r\n\r\n--x")
	f.Fuzz(func(t *testing.T, body string) {
		form, err := readForm(fuzzBoundary, strings.NewReader(body), "metadata")
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if form.document != nil {
			if m, err := decodeMetadata(form.document, false); err == nil && m == nil {
				t.Error("no metadata and no error")
			}
		}
		modules, contents, err := form.modules()
		if err != nil {
			wantRefusal(t, err)
			return
		}
		for _, m := range modules {
			if checkModuleName(m.Name) != nil || int64(len(contents[m.SHA256])) != m.Bytes {
				t.Errorf("module %+v", m)
			}
		}
	})
}

// FuzzFormOfJSON: as FuzzReadForm, of modules that come in JSON; of as many as one likes.
func FuzzFormOfJSON(f *testing.F) {
	f.Add([]byte(`{"main_module":"a.js","modules":[{"name":"a.js","content_type":"application/javascript+module","content_base64":"YQ=="}]}`), uint16(0))
	f.Add([]byte(`{"modules":[{}]}`), uint16(2*modulesMax))
	f.Add([]byte(`{"modules":null,"bindings":[{"name":"A","type":"json","json":null}]}`), uint16(1))
	f.Add([]byte(`{"modules":[{"name":"../a","content_base64":"="},1,[]]}`), uint16(3))
	f.Fuzz(func(t *testing.T, text []byte, more uint16) {
		text = bytes.Replace(text, []byte(`"modules":[`), []byte(`"modules":[`+strings.Repeat("{},", int(more))), 1)
		form, err := formOfJSON(text)
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if len(form.parts) > 2*modulesMax || len(form.document) > documentBytesMax || !json.Valid(form.document) {
			t.Fatalf("%d modules and the document %.100q", len(form.parts), form.document)
		}
		if _, err := decodeMetadata(form.document, true); err != nil {
			wantRefusal(t, err)
		}
		if _, _, err := form.modules(); err != nil {
			wantRefusal(t, err)
		}
	})
}

// Modules in JSON were counted once all of them had been read: 64 MiB of empty ones took
// gigabytes.
func TestModulesInJSONAreCountedAsTheyAreRead(t *testing.T) {
	for what, behind := range map[string]string{"one more": "{}", "something else": "1"} {
		_, err := formOfJSON([]byte(`{"modules":[` + strings.Repeat("{},", 2*modulesMax) + behind + `]}`))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "more than 400 modules") {
			t.Errorf("%s: error %v", what, err)
		}
	}
	for text, want := range map[string]string{
		`{"modules":{"a":1}}`: "modules is an object: it must be an array", `{"modules":7}`: "modules is 7: it must be an array",
		`{"modules":[{},{"name":1}]}`: "modules[1].name is 1", `{"modules":[{"content_base64":"?"}]}`: "modules[0].content_base64 is not base64",
	} {
		if _, err := formOfJSON([]byte(text)); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

// FuzzMetadata: what is accepted is one entry point or none, keeps what nobody
// knows, and loses nothing that was sent; the rest is refused in words for its
// sender.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"main_module": "a.js", "bindings": [{"name": "A", "type": "json", "json": null}], "invented": {"a": [1]}, "tags": null}`), true)
	f.Add([]byte(`{"body_part": "a", "limits": {"cpu_ms": 1}, "observability": {"enabled": true}, "annotations": {"workers/tag": "v1"}}`), false)
	f.Add([]byte(`{"migrations": {"steps": []}}`), true)
	f.Add([]byte(`{"bindings": [{"name": "\u0000", "type": "inherit"}, 1, []]}`), false)
	f.Fuzz(func(t *testing.T, text []byte, versioned bool) {
		m, err := decodeMetadata(text, versioned)
		if err != nil {
			wantRefusal(t, err)
			return
		}
		var sent map[string]json.RawMessage
		if err := json.Unmarshal(text, &sent); err != nil {
			t.Fatalf("accepted although %v", err)
		}
		known := members(reflect.TypeFor[metadata]())
		for name := range sent {
			if _, kept := m.kept[name]; !kept && known[name] == nil {
				t.Errorf("%s was lost", name)
			}
		}
		bindings, err := decodeBindings(m.Bindings)
		if err != nil {
			wantRefusal(t, err)
			return
		}
		for i := range bindings {
			if bindings[i].Type != deploy.BindingInherit {
				bindings[i].binding() // has the member that its type needs
			}
		}
		if w, err := m.worker(nil); err == nil {
			t.Errorf("the worker %+v has no module", w)
		}
	})
}

func wantRefusal(t *testing.T, err error) {
	t.Helper()
	if kind := errs.KindOf(err); kind != errs.Invalid && kind != errs.TooLarge {
		t.Errorf("error %v has kind %q", err, kind)
	}
}

func TestDocumentOfParts(t *testing.T) {
	f := func(members map[string]string, want string) {
		t.Helper()
		got, err := documentOf(members)
		if err != nil || string(got) != want {
			t.Errorf("%v: %s, error %v, want %s", members, got, err, want)
		}
	}
	f(map[string]string{"a": "1"}, `{"a":"1"}`)
	f(map[string]string{"bindings.0.name": "A", "bindings.1.name": "B", "bindings.1.text": "true"}, `{"bindings":[{"name":"A"},{"name":"B","text":"true"}]}`)
	f(map[string]string{"observability.enabled": "true", "observability.head_sampling_rate": "0.5", "limits.cpu_ms": "50", "bindings.0.json": `{"a":1}`},
		`{"bindings":[{"json":{"a":1}}],"limits":{"cpu_ms":50},"observability":{"enabled":true,"head_sampling_rate":0.5}}`)
	f(map[string]string{"limits.cpu_ms": "many", "a.1": "x", "a.2": "y", "b.00": "z"}, `{"a":{"1":"x","2":"y"},"b":{"00":"z"},"limits":{"cpu_ms":"many"}}`)
}

func TestPartsThatMakeNoDocument(t *testing.T) {
	for _, members := range []map[string]string{
		{"a": "1", "a.b": "2"}, {strings.Repeat("a.", 20) + "b": "1"}, {"a": "\xff"}, {"\xff": "a"},
	} {
		if got, err := documentOf(members); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %s, error %v", members, got, err)
		}
	}
}

// TestUploadsOfUnknownLengthAreBounded: a body that does not say how long it is
// must not be read without end.
func TestUploadsOfUnknownLengthAreBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"), zeros{})
	_, err := readForm(fuzzBoundary, http.MaxBytesReader(nil, io.NopCloser(endless), uploadBytesMax), "metadata")
	if errs.KindOf(err) != errs.TooLarge {
		t.Errorf("error %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A part that was sent twice counted as it came last, and single members beside a
// whole description counted not at all, so that what a person or a proxy checked
// was not what ran.
func TestFormsThatCanBeReadInTwoWays(t *testing.T) {
	module := [3]string{`name="a.js"; filename="a.js"`, deploy.ModuleTypeESM, ""}
	main := [3]string{`name="metadata.main_module"`, "", "a.js"}
	for what, parts := range map[string][][3]string{
		"member twice":            {main, main, module},
		"members and whole":       {{`name="metadata"`, "", `{"main_module": "b.js"}`}, main, module},
		"whole description twice": {{`name="metadata"`, "", `{}`}, {`name="metadata"`, "", `{}`}},
	} {
		if f, err := readForm(fuzzBoundary, strings.NewReader(formText(parts...)), "metadata"); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %s, error %v", what, f.document, err)
		}
	}
}

// A description may be as large as all of an upload, in one part or in a million,
// and is decoded several times over.
func TestDescriptionsAreBounded(t *testing.T) {
	members := make([][3]string, membersMax+1)
	for i := range members {
		members[i] = [3]string{fmt.Sprintf(`name="metadata.tags.%d"`, i), "", ""}
	}
	half := strings.Repeat("x", documentBytesMax/2)
	for what, c := range map[string]struct {
		parts [][3]string
		want  errs.Kind
	}{
		"one part":    {[][3]string{{`name="metadata"`, "", half + half}}, errs.TooLarge},
		"large parts": {[][3]string{{`name="metadata.a"`, "", half}, {`name="metadata.b"`, "", half}}, errs.TooLarge},
		"many parts":  {members, errs.Invalid},
	} {
		if _, err := readForm(fuzzBoundary, strings.NewReader(formText(c.parts...)), "metadata"); errs.KindOf(err) != c.want {
			t.Errorf("%s: error %v", what, err)
		}
	}
	if _, err := formOfJSON([]byte(`{"placement": "` + half + half + `"}`)); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("JSON: error %v", err)
	}
}
