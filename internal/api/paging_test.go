package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// cloudflare-go's ListAutoPaging asks for page after page until one is empty. Lists
// that were whole on every page never let it end. Its older release asks for as many
// pages as the first one says there are, and took its lack for one.
func TestPagesEnd(t *testing.T) {
	p := newPlatform(t)
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "index.js"}`, index).ok(t)
	p.send(t, http.MethodPost, "/workers/scripts/shop/versions", `{"main_module": "index.js"}`, index).ok(t)
	for range 2 {
		p.call(t, http.MethodPost, "/tokens", `{"name": "reader", "scopes": ["scripts:read"]}`).ok(t)
	}
	for path, each := range map[string]string{
		"/workers/scripts/shop/versions?deployable=true&page=%d": `"number":`,
		"/workers/scripts/shop/versions?page=%d":                 `"number":`,
		"/workers/scripts/shop/versions?per_page=1&page=%d":      `"number":`,
		"/tokens?page=%d":            `"name":"reader"`,
		"/tokens?per_page=1&page=%d": `"name":"reader"`,
	} {
		seen, pages := 0, ""
		for page := 1; ; page++ {
			a := p.call(t, http.MethodGet, fmt.Sprintf(path, page), "")
			a.ok(t, `"page":`+fmt.Sprint(page)+`,`)
			if page == 1 {
				_, pages, _ = strings.Cut(a.text, `"total_pages":`)
			}
			n := strings.Count(a.text, each)
			if seen += n; n > 0 && page < 9 {
				continue
			}
			if seen != 2 || !strings.HasPrefix(pages, fmt.Sprint(page-1)) {
				t.Errorf("%s: %d entries on %d pages before an empty one; the first page says there are %.2s", path, seen, page-1, pages)
			}
			break
		}
	}
}

// A switch that was neither true nor false was taken for one that was left out: deploy=1 deployed nothing.
func TestSwitchesOfTheQueryAreRead(t *testing.T) {
	p := newPlatform(t)
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "index.js"}`, index).ok(t)
	before := p.picture(t)
	v := p.newest(t, "shop")
	p.call(t, http.MethodGet, "/workers/scripts/shop/versions?deployable=yes", "").want(t, http.StatusBadRequest, 10001, "deployable", "yes")
	p.call(t, http.MethodPost, "/workers/scripts/shop/deployments?force=1", `{"strategy": "percentage", "versions": [{"version_id": "`+v.ID+`", "percentage": 100}]}`).
		want(t, http.StatusBadRequest, 10001, "force", "1")
	p.call(t, http.MethodPost, "/workers/workers/shop/versions?deploy=1", `{"main_module": "index.js", "modules": [{"name": "index.js", "content_type": "application/javascript+module", "content_base64": ""}]}`).
		want(t, http.StatusBadRequest, 10001, "deploy", "1")
	if after := p.picture(t); after != before {
		t.Errorf("refused requests left something:\n%s\nbefore:\n%s", after, before)
	}
}
