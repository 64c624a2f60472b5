package store

import (
	"slices"
	"strings"
	"testing"
)

func TestServersOfAnAddress(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGSSLMODE", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	f := func(address string, want ...Server) {
		t.Helper()
		if got, err := Servers(address); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", address, got, err, want)
		}
	}
	f("control.db")
	f("postgres://u:p@/d?host=/run/postgresql")
	f("postgres://u:p@db/d", Server{"db:5432", true})
	f("postgres://u:p@db/d?sslmode=prefer", Server{"db:5432", true})
	f("postgres://u:p@db:5433/d?sslmode=allow", Server{"db:5433", true})
	f("postgresql://u:p@db/d?sslmode=require", Server{"db:5432", false})
	f("postgres://u:p@[fd12::1]/d?sslmode=disable", Server{"[fd12::1]:5432", true})
	f("postgres://u:p@a,b:5433/d?sslmode=disable", Server{"a:5432", true}, Server{"b:5433", true})
	f("postgres://u:p@a,b:5433/d", Server{"a:5432", true}, Server{"b:5433", true})
	if _, err := Servers("postgres://u:secret@db/d?sslmode=perhaps"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("an address that cannot be read: %v", err)
	}
}
