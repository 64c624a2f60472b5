package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

// What cannot be undone takes the whole name, and not one key.
func TestPersonTypesWhatIsDeleted(t *testing.T) {
	before := time.Now()
	for _, f := range []struct {
		request client.DeletionRequest
		typed   string
		want    error
		words   string
	}{
		{client.DeletionRequest{Script: "shop"}, "shop", nil, "of script shop up to now? It cannot be undone. Type shop"},
		{client.DeletionRequest{Script: "shop"}, "y", errDeclined, "Type shop"},
		{client.DeletionRequest{Script: "shop"}, "", errDeclined, "Type shop"},
		{client.DeletionRequest{AllScripts: true, Before: &before}, "a1", nil, "of every script of account a1 before " + moment(before)},
		{client.DeletionRequest{AllScripts: true}, "shop", errDeclined, "Type a1"},
	} {
		p, asked := person(f.typed)
		question, name := deletionQuestion(f.request, "a1")
		if err := p.typed(t.Context(), question, name); !errors.Is(err, f.want) || !strings.Contains(asked.String(), f.words) {
			t.Errorf("%+v and %q: error %v, asked %q", f.request, f.typed, err, asked)
		}
	}
}

func TestDeletionBar(t *testing.T) {
	d := client.Deletion{State: schema.DeletionRunning, Error: "it waits", Places: []schema.DeletionPlace{{Name: "a", RowsDeleted: 4}, {Name: "b", RowsLeft: 5, PartsLeft: 6}}}
	if got, want := deletionBar(&d), "running, b: 5 rows left in 6 parts: it waits"; got != want {
		t.Errorf("the bar is %q, want %q", got, want)
	}
}
