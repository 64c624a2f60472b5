package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

// An answer that ends too early is the API's, which is to be asked again. Another server's is not.
func TestAnswersWithoutAnEnvelope(t *testing.T) {
	f := func(status int, length, body string, kind errs.Kind, want string) {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", length)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		defer server.Close()
		_, err := New(server.URL, "token", nil).Accounts(t.Context())
		if err == nil || errs.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
			t.Errorf("%d %q: kind %q, error %v", status, body, errs.KindOf(err), err)
		}
	}
	f(http.StatusNotFound, "4", "Nope", errs.NotFound, "is not Tidegate's API: status 404 without its envelope")
	f(http.StatusOK, "0", "", errs.Internal, "is not Tidegate's API: status 200")
	f(http.StatusOK, "2", "[]", errs.Internal, "is not Tidegate's API: status 200")
	f(http.StatusOK, "100", `{"success": true, "re`, errs.Unavailable, "the answer with status 200 ended too early")
}
