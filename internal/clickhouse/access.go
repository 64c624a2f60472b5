package clickhouse

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"tidegate/internal/certs"
)

// Access is how a server is trusted, and who this process is to it. The zero value leaves
// both to the address and to the system. Its files are read for each connection, and the
// password's for each query, so that what is replaced holds at once.
type Access struct {
	TLS certs.Client
	// User and the password in PasswordFile log in, unless User is empty. One line break at
	// the file's end is no part of it. A user without a password proves who it is by the
	// certificate of TLS.
	User         string
	PasswordFile string
}

// Check reads every file once.
func (a Access) Check() error {
	if err := a.tls().Check(); err != nil {
		return err
	}
	_, err := a.password()
	return err
}

func (a Access) tls() certs.Client {
	c := a.TLS
	c.Peer = "ClickHouse"
	return c
}

func (a Access) password() (string, error) {
	if a.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(a.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password for ClickHouse: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if password == "" {
		return "", fmt.Errorf("read the password for ClickHouse: %s is empty", a.PasswordFile)
	}
	return password, nil
}

// secureAddress adds to an https:// address what clickhouse-go wants to see in it.
func secureAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		return address // the library names what is wrong
	}
	q := u.Query()
	if !q.Has("secure") {
		q.Set("secure", "true")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// transport connects over TLS as the access says, and logs each query in.
func (a Access) transport(t *http.Transport) http.RoundTripper {
	if t.TLSClientConfig != nil && !t.TLSClientConfig.InsecureSkipVerify && t.TLSClientConfig.ServerName == "" { // else the address says how to trust
		t.DialTLSContext = a.tls().DialTLS
	}
	if a.User == "" {
		return t
	}
	return loggedIn{t, a}
}

type loggedIn struct {
	next   http.RoundTripper
	access Access
}

// RoundTrip names the user in ClickHouse's own headers, beside which it takes no others.
func (l loggedIn) RoundTrip(r *http.Request) (*http.Response, error) {
	password, err := l.access.password()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.Header.Set("X-ClickHouse-User", l.access.User)
	if password == "" {
		r.Header.Set("X-ClickHouse-SSL-Certificate-Auth", "on")
		r.Header.Del("X-ClickHouse-Key")
	} else {
		r.Header.Del("X-ClickHouse-SSL-Certificate-Auth")
		r.Header.Set("X-ClickHouse-Key", password)
	}
	return l.next.RoundTrip(r)
}
