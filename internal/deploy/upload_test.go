package deploy

import (
	"slices"
	"testing"
)

func TestChangedSecrets(t *testing.T) {
	worker := func(secrets ...string) *Worker {
		w := &Worker{Bindings: []Binding{{Name: "VAR", Type: BindingPlainText, Text: "v" + secrets[0]}}}
		for i := 0; i < len(secrets); i += 2 {
			w.Bindings = append(w.Bindings, Binding{Name: secrets[i], Type: BindingSecretText, Text: secrets[i+1]})
		}
		return w
	}
	f := func(a, b *Worker, want ...string) {
		t.Helper()
		if got := ChangedSecrets(a, b); !slices.Equal(got, want) {
			t.Errorf("changed %v, want %v", got, want)
		}
		if got := ChangedSecrets(b, a); !slices.Equal(got, want) {
			t.Errorf("the other way round changed %v, want %v", got, want)
		}
	}
	f(nil, nil)
	f(worker("A", "1"), worker("A", "1"))
	f(worker("A", "1", "B", "1"), worker("B", "1", "A", "1"))
	f(worker("A", "1"), nil, "A")
	f(worker("C", "1", "A", "1"), worker("B", "1", "A", "2"), "A", "B", "C")
	f(worker("A", ""), worker("B", ""), "A", "B")
}

func TestMaskedKeepsTheWorker(t *testing.T) {
	w := &Worker{ETag: "e", Bindings: []Binding{{Name: "K", Type: BindingSecretText, Text: "hunter2"}, {Name: "V", Type: BindingPlainText, Text: "v"}}}
	masked := w.Masked()
	if masked.Bindings[0].Text != "" || masked.Bindings[0].Name != "K" || masked.Bindings[1].Text != "v" || masked.ETag != "e" {
		t.Errorf("masked as %+v", masked)
	}
	if w.Bindings[0].Text != "hunter2" {
		t.Error("the worker itself lost its secret")
	}
}
