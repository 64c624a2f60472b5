package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOriginJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin.json")
	const inFile = `{"url": "http://a", "monitor": {}}`
	if err := os.WriteFile(path, []byte(inFile), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(file string, urls []string, stdin, want string) {
		t.Helper()
		got, err := originJSON(strings.NewReader(stdin), file, urls)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	f("", []string{"http://a"}, "", `{"url":"http://a"}`)
	f("", []string{"http://a", "http://b"}, "", `{"endpoints":[{"url":"http://a","weight":1},{"url":"http://b","weight":1}]}`)
	f(path, nil, "", inFile)
	f("-", nil, `{"endpoints": []}`, `{"endpoints": []}`) // for the API to refuse
}

func TestOriginJSONThatIsNone(t *testing.T) {
	f := func(file, stdin, want string) {
		t.Helper()
		if got, err := originJSON(strings.NewReader(stdin), file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %s, %v, want an error with %q", got, err, want)
		}
	}
	f(filepath.Join(t.TempDir(), "none.json"), "", "none.json")
	for _, text := range []string{"", "null", "[]", `"http://a"`, `{"url": `, `{"url": "http://a"} {}`} {
		f("-", text, "one JSON object")
	}
	f("-", `{"url": "`+strings.Repeat("a", originBytesMax)+`"}`, "longer than")
}
