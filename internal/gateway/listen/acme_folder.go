package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// acmeFolder is what is kept of one authority:
//
//	account.json                the account's address and key
//	certificates/<host>.pem     a key and its certificate with the chain
//	challenges/<type>-<what>    under way, by token or, for tls-alpn-01, by host
//	locks/<host>                held by the process that asks for the host
//
// Nobody but this user can read any of it. Several processes may share the folder.
type acmeFolder struct{ dir string }

const (
	certificatesDir = "certificates"
	challengesDir   = "challenges"
	locksDir        = "locks"
	pemSuffix       = ".pem"
	// challengeAge is when a challenge is no longer under way, whoever forgot it.
	challengeAge = 10 * time.Minute
	lockPoll     = 100 * time.Millisecond
)

func openACMEFolder(dir string) (*acmeFolder, error) {
	for _, name := range []string{certificatesDir, challengesDir, locksDir} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of ACME certificates: %w", err)
		}
	}
	return &acmeFolder{dir}, nil
}

var (
	hostPattern = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// challengeKey holds for tokens, in base64 for URLs, and for hosts. It keeps a path
	// from leading out of the folder.
	challengeKey = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,252}$`)
	notInNames   = regexp.MustCompile(`[^A-Za-z0-9.-]+`)
)

// validHost says that host is a full name in lower case, as a certificate may have it.
func validHost(host string) bool {
	return len(host) <= 253 && hostPattern.MatchString(host) && net.ParseIP(host) == nil
}

// plainName is a host without port and final dot, in lower case.
func plainName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// fileName makes a URL the name of a folder.
func fileName(address string) string {
	_, rest, _ := strings.Cut(address, "://")
	return strings.Trim(notInNames.ReplaceAllString(rest, "-"), "-.")
}

func (f *acmeFolder) certificatePath(host string) string {
	return filepath.Join(f.dir, certificatesDir, host+pemSuffix)
}

// certificates returns all of them by host, and by file name why one cannot be read.
func (f *acmeFolder) certificates() (found map[string]*tls.Certificate, damaged map[string]error) {
	found, damaged = map[string]*tls.Certificate{}, map[string]error{}
	entries, err := os.ReadDir(filepath.Join(f.dir, certificatesDir))
	if err != nil {
		damaged[certificatesDir] = err
	}
	for _, e := range entries {
		host, ok := strings.CutSuffix(e.Name(), pemSuffix)
		if !ok || !validHost(host) {
			continue // a file that was being written
		}
		certificate, err := f.certificate(host)
		if err != nil {
			damaged[e.Name()] = err
			continue
		}
		found[host] = certificate
	}
	return found, damaged
}

func (f *acmeFolder) certificate(host string) (*tls.Certificate, error) {
	content, err := os.ReadFile(f.certificatePath(host))
	if err != nil {
		return nil, err
	}
	return parseCertificate(host, content)
}

func parseCertificate(host string, content []byte) (*tls.Certificate, error) {
	certificate, err := tls.X509KeyPair(content, content)
	if err != nil {
		return nil, err
	}
	if err := certificate.Leaf.VerifyHostname(host); err != nil {
		return nil, err
	}
	return &certificate, nil
}

// keep stores a certificate, if it is one for host and of key.
func (f *acmeFolder) keep(host string, key signer, chain []byte) (*tls.Certificate, error) {
	content, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	content = append(content, chain...)
	certificate, err := parseCertificate(host, content)
	if err != nil {
		return nil, fmt.Errorf("the authority's certificate is of no use: %w", err)
	}
	return certificate, writeSecret(f.certificatePath(host), content)
}

func (f *acmeFolder) removeCertificate(host string) error { return remove(f.certificatePath(host)) }

// storedAccount is the content of account.json.
type storedAccount struct {
	acme.Account
	Key string `json:"key"` // PEM
}

func (f *acmeFolder) accountPath() string { return filepath.Join(f.dir, "account.json") }

// account returns nil if there is none yet.
func (f *acmeFolder) account() (*acme.Account, error) {
	content, err := os.ReadFile(f.accountPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var stored storedAccount
	if err := json.Unmarshal(content, &stored); err != nil {
		return nil, fmt.Errorf("read the ACME account in %s: %w", f.accountPath(), err)
	}
	block, _ := pem.Decode([]byte(stored.Key))
	if block == nil {
		return nil, fmt.Errorf("read the ACME account in %s: it has no key", f.accountPath())
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the key of the ACME account in %s: %w", f.accountPath(), err)
	}
	able, ok := key.(signer)
	if !ok {
		return nil, fmt.Errorf("the key of the ACME account in %s cannot sign", f.accountPath())
	}
	stored.PrivateKey = able
	return &stored.Account, nil
}

func (f *acmeFolder) keepAccount(account *acme.Account) error {
	key, err := encodeKey(account.PrivateKey)
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(storedAccount{*account, string(key)}, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(f.accountPath(), content)
}

func (f *acmeFolder) removeAccount() error { return remove(f.accountPath()) }

func (f *acmeFolder) challengePath(kind, key string) string {
	return filepath.Join(f.dir, challengesDir, kind+"-"+key)
}

func keyOf(c acme.Challenge) string {
	if c.Type == acme.ChallengeTypeTLSALPN01 {
		return c.Identifier.Value
	}
	return c.Token
}

func (f *acmeFolder) keepChallenge(c acme.Challenge) error {
	if !challengeKey.MatchString(keyOf(c)) {
		return fmt.Errorf("the authority's challenge has the token %q, which is no token", c.Token)
	}
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return writeSecret(f.challengePath(c.Type, keyOf(c)), content)
}

func (f *acmeFolder) removeChallenge(c acme.Challenge) error {
	return remove(f.challengePath(c.Type, keyOf(c)))
}

// challenge returns one that is under way.
func (f *acmeFolder) challenge(kind, key string) (c acme.Challenge, err error) {
	if !challengeKey.MatchString(key) {
		return c, fs.ErrNotExist
	}
	content, err := os.ReadFile(f.challengePath(kind, key))
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(content, &c)
}

// removeOldChallenges removes what a process that was killed has left behind.
func (f *acmeFolder) removeOldChallenges(now time.Time) {
	entries, err := os.ReadDir(filepath.Join(f.dir, challengesDir))
	if err != nil {
		return // the next challenge says what is wrong
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > challengeAge {
			_ = os.Remove(filepath.Join(f.dir, challengesDir, e.Name())) // or the next time
		}
	}
}

// lock waits until no other process has the lock of a name.
func (f *acmeFolder) lock(ctx context.Context, name string) (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(f.dir, locksDir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process has the lock %s: %w", file.Name(), ctx.Err()), file.Close())
		}
	}
}

func encodeKey(key signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writeSecret replaces a file that nobody else may read in one step.
func writeSecret(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
