// Package dashboards serves the web interface, whose built files are part of the
// binary. It knows nothing of the platform: what the pages show comes over HTTP.
package dashboards

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed dist
var dist embed.FS

// contentSecurityPolicy allows what the pages need and nothing from elsewhere:
// no inline code or style, no frame around them, no form that leaves.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// asset is one file, ready to be sent.
type asset struct {
	name        string
	body        []byte
	contentType string
	etag        string
}

// Handler serves the embedded files below "/". It is safe for concurrent use.
func Handler() http.Handler {
	assets := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", contentSecurityPolicy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "the dashboard only answers GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		name := path.Clean("/" + r.URL.Path)
		if name == "/" {
			name = "/index.html"
		}
		a, ok := assets[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		header.Set("Content-Type", a.contentType)
		header.Set("ETag", a.etag)
		header.Set("Cache-Control", "no-cache") // ask each time; the tag answers in one round trip
		http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.body))
	})
}

// load reads every embedded file, keyed by its path below "/". The files are part
// of the binary, so that a failure to read one is a fault of the build.
func load() map[string]asset {
	assets := map[string]asset{}
	err := fs.WalkDir(dist, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		assets[name[len("dist"):]] = asset{
			name: name, body: body,
			contentType: contentType(name),
			etag:        `"` + hex.EncodeToString(sum[:16]) + `"`,
		}
		return nil
	})
	if err != nil {
		panic("dashboards: read the embedded files: " + err.Error())
	}
	return assets
}

// contentTypes does not leave the common types to the machine's own tables, which
// differ.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

func contentType(name string) string {
	extension := path.Ext(name)
	if t, ok := contentTypes[extension]; ok {
		return t
	}
	if t := mime.TypeByExtension(extension); t != "" {
		return t
	}
	return "application/octet-stream"
}
