// Package dashboards serves the web interface, whose built files are part of the
// binary. It knows nothing of the platform: what the pages show comes over HTTP.
package dashboards

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"
)

//go:embed dist
var dist embed.FS

// headers are those of every answer. The policy allows what the pages need and nothing
// from elsewhere: no inline code or style, no text that becomes code, no frame around
// them, no form that leaves.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
		"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'; trusted-types 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// page is the file that every page is; the code in it looks at the address.
const page = "/index.html"

// pages are the addresses of pages: those without an account, and all below one's id. A
// slash at the end changes nothing, as in the pages' own router.
var pages = regexp.MustCompile(`^/((login|accounts|system)/?|[0-9a-f]{32}(/.*)?)?$`)

// hashed files have their content's hash in their names, and never change.
const hashed = "/assets/"

// asset is one file, ready to be sent.
type asset struct {
	name        string
	body        []byte
	gzipped     func() []byte // nil: it is not worth it
	contentType string
	etag        string
}

// Handler serves the embedded files below "/". It is safe for concurrent use.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("dashboards: open the embedded files: " + err.Error()) // a fault of the build
	}
	return handler(files)
}

func handler(files fs.FS) http.Handler {
	assets := load(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the dashboard only answers GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		name := r.URL.Path
		if pages.MatchString(name) {
			name = page
		}
		a, ok := assets[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		a.serve(w, r)
	})
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", a.contentType)
	header.Set("Cache-Control", "no-cache") // ask each time; the tag answers in one round trip
	if strings.HasPrefix(a.name, hashed) {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body, etag := a.body, a.etag
	if a.gzipped != nil {
		header.Set("Vary", "Accept-Encoding")
		if takesGzip(r) {
			body, etag = a.gzipped(), a.etag+"-gzip"
			header.Set("Content-Encoding", "gzip")
		}
	}
	header.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(body))
}

// takesGzip reports whether the client lists gzip and does not refuse it.
func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return weight == "" || strings.Trim(weight, " q=0.") != "" // q=0 refuses, q=0.5 does not
		}
	}
	return false
}

// load reads every file, keyed by its path below "/". The files are part of the binary,
// so that a failure to read one is a fault of the build.
func load(files fs.FS) map[string]*asset {
	assets := map[string]*asset{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		a := &asset{name: "/" + name, body: body, contentType: contentType(name), etag: hex.EncodeToString(sum[:16])}
		if len(body) >= gzipBytesMin && compressible.MatchString(a.contentType) {
			a.gzipped = sync.OnceValue(func() []byte { return compress(body) })
		}
		assets[a.name] = a
		return nil
	})
	if err != nil {
		panic("dashboards: read the embedded files: " + err.Error())
	}
	return assets
}

// gzipBytesMin is what fits into one packet anyway.
const gzipBytesMin = 1200

var compressible = regexp.MustCompile(`^(text/|application/json|image/svg)`)

func compress(body []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // a buffer takes everything
		panic(fmt.Sprintf("dashboards: compress a file: %v", err))
	}
	return out.Bytes()
}

// contentTypes does not leave the common types to the machine's own tables, which
// differ.
var contentTypes = map[string]string{
	".css":   "text/css; charset=utf-8",
	".html":  "text/html; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".json":  "application/json",
	".map":   "application/json",
	".svg":   "image/svg+xml",
	".woff2": "font/woff2",
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
