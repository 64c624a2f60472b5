package compose

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tidegate/internal/store"
	"tidegate/schema/control"
)

// Whoever has lost the admin token gets another one by the statement that the page for Kubernetes has.
func TestALostAdminTokenIsReplaced(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "control.db")
	db, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var lost string
	if _, err := db.Bootstrap(ctx, control.Account{ID: control.FirstAccountID}, func(token string) error { lost = token; return nil }); err != nil {
		t.Fatal(err)
	}
	_, other, err := db.CreateToken(ctx, control.Token{AccountID: control.FirstAccountID, Name: "edge", Scopes: []control.Scope{control.Routers}})
	if err != nil {
		t.Fatal(err)
	}

	found := regexp.MustCompile(`echo "(UPDATE tokens [^"]*)"`).FindStringSubmatch(readFile(t, "docs/operations/kubernetes.md"))
	if found == nil {
		t.Fatal("the page has no such statement")
	}
	const made = "another token"
	sum := sha256.Sum256([]byte(made))
	statement := regexp.MustCompile(`\$\(.*\)`).ReplaceAllString(found[1], hex.EncodeToString(sum[:]))
	direct, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	if _, err := direct.ExecContext(ctx, statement); err != nil || strings.Contains(statement, "$") {
		t.Fatalf("%s: %v", statement, err)
	}

	if token, err := db.Authenticate(ctx, made); err != nil || token.AccountID != "" || token.Name != "operator" {
		t.Errorf("the new token is %+v (%v), want the operator's", token, err)
	}
	if _, err := db.Authenticate(ctx, lost); err == nil {
		t.Error("the lost token opens something")
	}
	if _, err := db.Authenticate(ctx, other); err != nil {
		t.Errorf("the routers' token: %v", err)
	}
}
