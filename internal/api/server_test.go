package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tidegate/internal/api/apitest"
	"tidegate/internal/api/client"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// accountsFunc are accounts whose list is a function.
type accountsFunc func() ([]control.Account, error)

func (f accountsFunc) Accounts(context.Context) ([]control.Account, error) { return f() }

func (f accountsFunc) Account(context.Context, string) (control.Account, error) {
	return control.Account{}, nil
}

func (f accountsFunc) CreateAccount(context.Context, string) (control.Account, error) {
	return control.Account{}, nil
}

func (f accountsFunc) UpdateAccount(context.Context, string, control.AccountUpdate) (control.Account, error) {
	return control.Account{}, nil
}

func (f accountsFunc) SubdomainOwner(context.Context, string) (control.Account, error) {
	return control.Account{}, nil
}

func (f accountsFunc) SetSubdomain(context.Context, string, string) error { return nil }

// tokens is the interface under a name that does not hide its method.
type tokens = Tokens

// operatorOnly takes every secret for the operator's.
type operatorOnly struct{ tokens }

func (operatorOnly) Authenticate(context.Context, string) (control.Token, error) {
	return control.Token{Scopes: []control.Scope{control.Admin}}, nil
}

// listing is a server on which GET /accounts does what f does, with its log.
func listing(t *testing.T, f accountsFunc) (*httptest.Server, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, Deps{Accounts: f, Tokens: operatorOnly{}})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(s.Handler())
	t.Cleanup(listener.Close)
	return listener, &log
}

// TestClientMapsErrorsBack holds the table of this package and that of the client
// together: a caller of the client sees the kind that the server's part returned.
func TestClientMapsErrorsBack(t *testing.T) {
	for kind := range answers {
		listener, _ := listing(t, func() ([]control.Account, error) {
			return nil, errs.New(kind, 4711, "a sentence").At("/x")
		})
		_, err := client.New(listener.URL, "token", nil).Accounts(t.Context())
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != kind || e.Code != 4711 || e.Message != "a sentence" || e.Pointer != "/x" {
			t.Errorf("%s came back as %+v", kind, err)
		}
	}
}

func TestFaultsAreLoggedAndNotShown(t *testing.T) {
	for name, f := range map[string]accountsFunc{
		"error": func() ([]control.Account, error) { return nil, errors.New("disk on fire") },
		"panic": func() ([]control.Account, error) { panic("disk on fire") },
	} {
		t.Run(name, func(t *testing.T) {
			listener, log := listing(t, f)
			validator, err := apitest.NewValidator(nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.New(listener.URL, "token", &http.Client{Transport: validator}).Accounts(t.Context())
			if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), "internal error") || strings.Contains(err.Error(), "fire") {
				t.Errorf("the client sees %v", err)
			}
			if list := validator.Violations(); len(list) > 0 {
				t.Errorf("the answer is no envelope: %v", list)
			}
			listener.Close() // the log is complete when the handler has returned
			if !strings.Contains(log.String(), "disk on fire") || !strings.Contains(log.String(), "request_id=") {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

func TestEndpointsAreDocumented(t *testing.T) {
	validator, err := apitest.NewValidator(nil)
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, operation := range validator.Operations() {
		documented[operation] = true
	}
	for _, e := range (&Server{}).endpoints() {
		segments := strings.Split(e.path, "/")
		for i, segment := range segments {
			if name, isParam := strings.CutPrefix(segment, ":"); isParam {
				segments[i] = "{" + name + "}"
			}
		}
		operation := e.method + " " + strings.Join(segments, "/")
		if !documented[operation] {
			t.Errorf("%s is not in openapi.yaml", operation)
		}
		delete(documented, operation)
	}
	for operation := range documented {
		t.Errorf("%s is in openapi.yaml and has no endpoint", operation)
	}
}

func TestClientTellsWhatIsWrongWithTheServer(t *testing.T) {
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("<html>")) // to a test's own connection
	}))
	defer html.Close()
	_, err := client.New(html.URL, "token", nil).Accounts(t.Context())
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "503") {
		t.Errorf("a proxy's page: %v", err)
	}
	html.Close()
	if _, err = client.New(html.URL, "token", nil).Accounts(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = client.New(html.URL, "token", nil).Accounts(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
