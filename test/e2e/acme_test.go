package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// pebble is Let's Encrypt's ACME server for tests, and a DNS server that says of every
// name that it is on this machine.
type pebble struct {
	dir, address, manage, dns string
	process                   *platform.Process
	client                    *http.Client
}

// pebbleValidity is short enough for a renewal within a test, and long enough for what
// comes before it.
const pebbleValidity = time.Minute

// newPebble builds the servers, which are modules of test/acme, and starts them. The
// authority looks for challenges at the two ports.
func newPebble(t *testing.T, httpPort, tlsPort string) *pebble {
	t.Helper()
	p := &pebble{dir: t.TempDir(), address: "127.0.0.1:" + freePort(t), manage: "127.0.0.1:" + freePort(t), dns: "127.0.0.1:" + freePort(t)}
	const module = "github.com/letsencrypt/pebble/v2/cmd/"
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.dir+string(filepath.Separator), module+"pebble", module+"pebble-challtestsrv")
	build.Dir = filepath.Join("..", "acme")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the ACME server: %v\n%s", err, out)
	}
	p.makeCertificate(t)
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": p.address, "managementListenAddress": p.manage,
		"certificate": filepath.Join(p.dir, "ca.crt"), "privateKey": filepath.Join(p.dir, "ca.key"),
		"httpPort": number(t, httpPort), "tlsPort": number(t, tlsPort), "keyAlgorithm": "ecdsa",
		"retryAfter":                     map[string]int{"authz": 1, "order": 1},
		"externalAccountBindingRequired": true, "externalAccountMACKeys": map[string]string{"kid-1": pebbleKey},
		"profiles": map[string]any{"default": map[string]any{"description": "short", "validityPeriod": int(pebbleValidity.Seconds())}},
	}}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"config.json": b, "eab.key": []byte(pebbleKey + "\n")} {
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := platform.StartProcess(logOf(t, "DNS"), nil, filepath.Join(p.dir, "pebble-challtestsrv"), "-dnsserver", p.dns,
		"-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", "127.0.0.1:"+freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Kill)
	p.start(t)
	return p
}

// pebbleKey is the HMAC key of the external account.
const pebbleKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

func number(t *testing.T, port string) int {
	t.Helper()
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// start starts an authority that knows nothing of the one before.
func (p *pebble) start(t *testing.T) {
	t.Helper()
	var err error
	if p.process, err = platform.StartProcess(logOf(t, "pebble"), []string{"PEBBLE_VA_NOSLEEP=1"}, filepath.Join(p.dir, "pebble"),
		"-config", filepath.Join(p.dir, "config.json"), "-dnsserver", p.dns, "-strict"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.process.Kill)
	eventually(t, 20*time.Second, "the authority answers", func() (bool, error) {
		_, err := p.get(t.Context(), "https://"+p.address+"/dir")
		return err == nil, err
	})
}

func (p *pebble) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(res.Body)
}

// roots are what clients of its certificates trust.
func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	b, err := p.get(t.Context(), "https://"+p.manage+"/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatalf("the authority's root is %q", b)
	}
	return pool
}

// makeCertificate makes one for the authority's own address.
func (p *pebble) makeCertificate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for name, block := range map[string]*pem.Block{"ca.crt": {Type: "CERTIFICATE", Bytes: der}, "ca.key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(p.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		pool.AppendCertsFromPEM(pem.EncodeToMemory(block))
	}
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 10 * time.Second}
}

// TestACME gets certificates for scripts from a real ACME server, by each challenge,
// keeps them over a restart without the authority, and renews them.
func TestACME(t *testing.T) {
	t.Parallel() // it waits for most of a certificate's life
	gatewayPort, tlsPort := freePort(t), freePort(t)
	ca := newPebble(t, gatewayPort, tlsPort)
	options := func(dir, challenge string) platform.Options {
		return platform.Options{DataDir: dir, Env: []string{"SSL_CERT_FILE=" + filepath.Join(ca.dir, "ca.crt")}, Args: []string{
			"--gateway-addr", "127.0.0.1:" + gatewayPort, "--gateway-tls-addr", "127.0.0.1:" + tlsPort, "--logpush-allow-loopback",
			"--gateway-acme-agree", "--gateway-acme-directory", "https://" + ca.address + "/dir", "--gateway-acme-email", "ops@example.com",
			"--gateway-acme-challenges", challenge, "--gateway-acme-eab-key-id", "kid-1", "--gateway-acme-eab-key-file", filepath.Join(ca.dir, "eab.key"),
		}}
	}
	noChallenge := func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "acme-challenge") {
			t.Errorf("a challenge has reached the script: %s", r.URL)
		}
		okHandler(w, r)
	}
	p := start(t, options(t.TempDir(), "tls-alpn-01"))
	serve(t, p, "shop", noChallenge)
	first := visitTLS(t, p, p.Host("shop"), ca.roots(t))

	conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: p.Host("nobody"), InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", hostPort(p.GatewayTLS)) // the handshake must fail
	if err == nil {
		_ = conn.Close()
		t.Error("a host that nobody serves got a certificate")
	}
	metrics := metricsOf(t, p)
	for _, want := range []string{`acme_orders_total{result="issued"} 1`, `acme_orders_total{result="failed"} 0`, `acme_refused_total{reason="unknown_host"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if expiry := `shop.dev.localhost.pem"} ` + strconv.FormatFloat(float64(first.NotAfter.Unix()), 'g', -1, 64); !strings.Contains(metrics, expiry) {
		t.Errorf("the metrics do not say when the certificate runs out: %s", expiry)
	}

	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	ca.process.Kill()
	p = start(t, options(p.DataDir, "http-01"))
	again := presented(t, p, p.Host("shop"), &tls.Config{InsecureSkipVerify: true}) // the root is gone with the authority
	if again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("another certificate is presented after a restart without the authority")
	}

	ca.start(t) // without the account that the first one knew
	serve(t, p, "blog", noChallenge)
	visitTLS(t, p, p.Host("blog"), ca.roots(t))
	if metrics := metricsOf(t, p); !strings.Contains(metrics, `acme_challenges_total{type="http-01"} `) || strings.Contains(metrics, `acme_challenges_total{type="http-01"} 0`) {
		t.Error("no http-01 challenge is counted")
	}
	eventually(t, 2*pebbleValidity, "the first certificate is renewed", func() (bool, error) {
		now := presented(t, p, p.Host("shop"), &tls.Config{InsecureSkipVerify: true})
		return now.SerialNumber.Cmp(first.SerialNumber) != 0, nil
	})
	visitTLS(t, p, p.Host("shop"), ca.roots(t))
}

// visitTLS asks for a script's page over TLS, checks the certificate, and returns it.
func visitTLS(t *testing.T, p *platform.Platform, host string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	return presented(t, p, host, &tls.Config{RootCAs: roots})
}

func presented(t *testing.T, p *platform.Platform, host string, config *tls.Config) *x509.Certificate {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, hostPort(p.GatewayTLS))
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("visit https://%s: %v", host, err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || string(body) != "ok" {
		t.Fatalf("https://%s answered %q, %v", host, body, err)
	}
	return res.TLS.PeerCertificates[0]
}

func metricsOf(t *testing.T, p *platform.Platform) string {
	t.Helper()
	res, err := http.Get(p.Ready.API + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
