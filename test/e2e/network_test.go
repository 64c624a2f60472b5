package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/internal/certs"
	"tidegate/internal/certs/certstest"
	"tidegate/test/platform"
)

// networkBlocks are those of the trial in docs/operations/network.md: how certificates are
// made, what is started, twice, and how it is asked.
func networkBlocks(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations", "network.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, block[1])
	}
	if len(blocks) != 4 {
		t.Fatalf("the page has %d sh blocks, want 4", len(blocks))
	}
	return blocks
}

// flagsOf are those of a block that is one command.
func flagsOf(t *testing.T, block, command string, replace *strings.Replacer) []string {
	t.Helper()
	flags, ok := strings.CutPrefix(block, command+" ")
	if !ok {
		t.Fatalf("the block is %q, want %s", block, command)
	}
	return strings.Fields(strings.ReplaceAll(replace.Replace(flags), "\\\n", " "))
}

// TestNetworkOfTheDocumentation starts a platform and a router of its own as
// docs/operations/network.md says, and an ingest process beside them. Everything that can
// speak TLS does, and lets nobody in who comes in clear text. (The embedded broker speaks
// none; Kafka's TLS is tested on real brokers, PostgreSQL's on a real server.)
func TestNetworkOfTheDocumentation(t *testing.T) {
	dir, blocks := t.TempDir(), networkBlocks(t)
	if out, err := shell(t, dir, blocks[0]); err != nil {
		t.Fatalf("make the certificates: %v\n%s", err, out)
	}
	var files []string // whose names stand for their paths
	for _, name := range []string{"ca", "control", "router"} {
		for _, end := range []string{".crt", ".key"} {
			files = append(files, " "+name+end, " "+filepath.Join(dir, name+end))
		}
	}
	data := t.TempDir()
	files = append(files, "data/router-token", filepath.Join(data, "router-token"))
	ca := filepath.Join(dir, "ca.crt")
	trusting := certs.Client{CAFile: ca}.Transport()
	t.Cleanup(trusting.CloseIdleConnections)

	p := start(t, platform.Options{DataDir: data, Transport: trusting, Args: flagsOf(t, blocks[1], "bin/tidegate up", strings.NewReplacer(files...))})
	if !strings.HasPrefix(p.Ready.API, "https://") {
		t.Fatalf("ready.json names the API %s", p.Ready.API)
	}
	serve(t, p, "shop", okHandler)

	gateway, ops := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	places := strings.NewReplacer(append(files, "127.0.0.1:9092", p.Kafka, "127.0.0.1:8787", hostPort(p.Ready.API),
		"127.0.0.1:8081", gateway, "127.0.0.1:9465", ops, "--data-dir router-data", "--data-dir "+t.TempDir(), "bin/tidegate", filepath.Join(bin, "tidegate"))...)
	router, err := platform.StartProcess(logOf(t, "router"), nil, filepath.Join(bin, "router"), flagsOf(t, blocks[2], "bin/router", places)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(router.Kill)
	far := platform.Platform{Ready: platform.Ready{Gateway: "http://" + gateway}}
	eventually(t, time.Minute, "the router serves what it got over TLS, by its own token and certificate", func() (bool, error) {
		status, _, err := far.Visit(t.Context(), http.DefaultClient, "shop", nil)
		return status == http.StatusOK, err
	})
	t.Setenv("TIDEGATE_DATA_DIR", data)
	const want = "ready\nready\nrouters  routers\n403\n200\n"
	if out, err := shell(t, dir, places.Replace(blocks[3])); err != nil || regexp.MustCompile(" +").ReplaceAllString(out, "  ") != want {
		t.Errorf("the commands wrote %q, %v, want %q", out, err, want)
	}

	ingestOps := "127.0.0.1:" + freePort(t)
	own := certs.Client{CAFile: ca, CertFile: filepath.Join(dir, "router.crt"), KeyFile: filepath.Join(dir, "router.key")}
	startSecureIngest(t, p, dir, ingestOps)
	asking := own.Transport()
	t.Cleanup(asking.CloseIdleConnections)
	eventually(t, time.Minute, "ingest reaches ClickHouse over TLS", func() (bool, error) {
		status, text, err := fetch(t.Context(), asking, "https://"+ingestOps+"/readyz")
		return status == http.StatusOK && strings.HasPrefix(text, "ready"), err
	})

	for name, address := range map[string]string{"API": hostPort(p.Ready.API), "ops of the router": ops, "ops of ingest": ingestOps} {
		if status, text, err := fetch(t.Context(), http.DefaultTransport, "http://"+address+"/healthz"); err == nil && status != http.StatusBadRequest {
			t.Errorf("the %s answers in clear text: %d %s", name, status, text)
		}
	}
	for _, address := range []string{ops, ingestOps} {
		if status, text, err := fetch(t.Context(), trusting, "https://"+address+"/healthz"); err == nil {
			t.Errorf("%s answers a client without a certificate: %d %s", address, status, text)
		}
	}
	refusedRouters(t, p, dir)
}

// refusedRouters start with what is not right, and say what that is in the second line of
// their readiness or, without a snapshot, by not being ready.
func refusedRouters(t *testing.T, p *platform.Platform, dir string) {
	t.Helper()
	stranger := certstest.NewAuthority(t, "another")
	for want, flags := range map[string][]string{
		"name the file of the authority": {"--api-ca-file", stranger.File},
		"--api-cert-file":                {"--api-ca-file", filepath.Join(dir, "ca.crt")},
	} {
		ops := "127.0.0.1:" + freePort(t)
		router, err := platform.StartProcess(logOf(t, "router"), nil, filepath.Join(bin, "router"), append([]string{
			"--kafka", p.Kafka, "--api-url", p.Ready.API, "--api-token-file", filepath.Join(p.DataDir, "router-token"), "--data-dir", t.TempDir(),
			"--gateway-addr", "127.0.0.1:0", "--ops-addr", ops}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "a router is not ready, because: "+want, func() (bool, error) {
			status, text, err := fetch(t.Context(), http.DefaultTransport, "http://"+ops+"/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(text, want), err
		})
		router.Kill()
	}
}

// startSecureIngest reaches the embedded engine as a server that speaks TLS and asks for a
// password.
func startSecureIngest(t *testing.T, p *platform.Platform, dir, ops string) {
	t.Helper()
	engine, err := url.Parse(p.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	control := certs.Pair{Cert: filepath.Join(dir, "control.crt"), Key: filepath.Join(dir, "control.key")}
	loaded, err := certs.Load([]certs.Pair{control}, certs.Metrics{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", loaded.TLS())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(engine)
		r.Out.Header.Del("X-ClickHouse-User")
		r.Out.Header.Del("X-ClickHouse-Key")
	}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-ClickHouse-User") != "tidegate" || r.Header.Get("X-ClickHouse-Key") != "s3cret" {
			http.Error(w, "no such user", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.crt")
	process, err := platform.StartProcess(logOf(t, "ingest"), nil, filepath.Join(bin, "ingest"), "--roles", "ingest", "--kafka", p.Kafka,
		"--clickhouse", "https://"+listener.Addr().String(), "--clickhouse-ca-file", ca, "--clickhouse-user", "tidegate", "--clickhouse-password-file", password,
		"--ops-addr", ops, "--ops-tls-cert", control.Cert, "--ops-tls-key", control.Key, "--ops-client-ca-file", ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
}

func fetch(ctx context.Context, transport http.RoundTripper, address string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	return res.StatusCode, string(body), err
}
