package api

import (
	"net/http"
	"strings"
	"testing"
)

// A 404 for a product that wrangler asks for read like a broken installation.
func TestAbsentProductsAreNamed(t *testing.T) {
	listener, _ := listing(t, nil)
	f := func(method, path, want string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, listener.URL+basePath+"/accounts/1"+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body strings.Builder
		if err := resp.Write(&body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(body.String(), want) || !strings.Contains(body.String(), `"code":7003`) {
			t.Errorf("%s %s: got %s, want 404 with %q", method, path, body.String(), want)
		}
	}
	f("POST", "/storage/kv/namespaces", "Tidegate does not support KV yet, and has no endpoint POST /client/v4/accounts/1/storage/kv/namespaces")
	f("POST", "/workers/scripts/shop/assets-upload-session", "does not support static assets yet")
	f("GET", "/queues", "does not support Queues yet")
	f("PUT", "/r2/buckets/x", "does not support R2 yet")
	f("GET", "/workers/nothing", "there is no endpoint GET")
}
