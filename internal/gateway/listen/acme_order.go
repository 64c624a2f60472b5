package listen

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"tidegate/internal/gateway/lean"
)

// accountHolder knows the account with the authority once it was needed.
type accountHolder struct {
	mu      sync.Mutex
	account *acme.Account
}

func (a *ACME) client() *acmez.Client {
	solvers := map[string]acmez.Solver{}
	for _, challenge := range a.cfg.Challenges {
		solvers[challenge] = solver{a.folder}
	}
	return &acmez.Client{
		Client:           &acme.Client{Directory: a.cfg.Directory, HTTPClient: &http.Client{Timeout: 30 * time.Second}, UserAgent: "tidegate"},
		ChallengeSolvers: solvers,
	}
}

// order gets a certificate for one host from the authority and keeps it. An account
// that the authority has forgotten is made again.
func (a *ACME) order(ctx context.Context, host string) (*tls.Certificate, error) {
	client := a.client()
	certificate, err := a.orderOnce(ctx, client, host)
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		if err := a.forgetAccount(); err != nil {
			return nil, err
		}
		certificate, err = a.orderOnce(ctx, client, host)
	}
	return certificate, err
}

func (a *ACME) orderOnce(ctx context.Context, client *acmez.Client, host string) (*tls.Certificate, error) {
	account, err := a.getAccount(ctx, client.Client)
	if err != nil {
		return nil, fmt.Errorf("get an account: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chains, err := client.ObtainCertificateForSANs(ctx, *account, key, []string{host})
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the authority issued no certificate")
	}
	return a.folder.keep(host, key, chains[0].ChainPEM)
}

// getAccount returns the account on disk, or makes one. Its lock keeps two processes
// from making two.
func (a *ACME) getAccount(ctx context.Context, client *acme.Client) (_ *acme.Account, err error) {
	a.account.mu.Lock()
	defer a.account.mu.Unlock()
	if a.account.account != nil {
		return a.account.account, nil
	}
	unlock, err := a.folder.lock(ctx, "account")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	account, err := a.folder.account()
	if err != nil {
		return nil, err
	}
	if account == nil {
		if account, err = a.newAccount(ctx, client); err != nil {
			return nil, err
		}
	}
	a.account.account = account
	return account, nil
}

func (a *ACME) newAccount(ctx context.Context, client *acme.Client) (*acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	account := acme.Account{TermsOfServiceAgreed: true, PrivateKey: key}
	if a.cfg.Email != "" {
		account.Contact = []string{"mailto:" + a.cfg.Email}
	}
	if a.cfg.EABKeyID != "" {
		if err := account.SetExternalAccountBinding(ctx, client, acme.EAB{KeyID: a.cfg.EABKeyID, MACKey: a.cfg.EABKey}); err != nil {
			return nil, fmt.Errorf("bind it to the external account %s: %w", a.cfg.EABKeyID, err)
		}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return nil, err
	}
	account.PrivateKey = key
	return &account, a.folder.keepAccount(&account)
}

func (a *ACME) forgetAccount() error {
	a.account.mu.Lock()
	defer a.account.mu.Unlock()
	a.account.account = nil
	return a.folder.removeAccount()
}

// solver puts challenges where every process that shares the folder finds them: the
// authority may reach any of them.
type solver struct{ folder *acmeFolder }

func (s solver) Present(_ context.Context, c acme.Challenge) error { return s.folder.keepChallenge(c) }

func (s solver) CleanUp(_ context.Context, c acme.Challenge) error {
	return s.folder.removeChallenge(c)
}

// challengePath is where an authority looks for the answer to http-01.
const challengePath = "/.well-known/acme-challenge/"

// Handler answers http-01 challenges that are under way, for the host that they are
// about, and passes everything else on. It is a lean.ListHandler if next is one.
func (a *ACME) Handler(next http.Handler) http.Handler {
	h := challenged{a, next}
	if lists, ok := next.(lean.ListHandler); ok {
		return challengedLists{h, lists}
	}
	return h
}

type challenged struct {
	acme *ACME
	next http.Handler
}

func (h challenged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, challengePath)
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.next.ServeHTTP(w, r)
		return
	}
	c, err := h.acme.folder.challenge(acme.ChallengeTypeHTTP01, token)
	if err != nil || c.Identifier.Value != plainName(r.Host) {
		h.next.ServeHTTP(w, r)
		return
	}
	h.acme.counts.challenges[slices.Index(acmeChallenges, acme.ChallengeTypeHTTP01)].Add(1)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(c.KeyAuthorization)) // the authority asks again
}

type challengedLists struct {
	challenged
	lists lean.ListHandler
}

func (h challengedLists) ServeList(x *lean.Exchange) {
	if strings.HasPrefix(x.Path, challengePath) {
		h.ServeHTTP(x.HTTP())
		return
	}
	h.lists.ServeList(x)
}

// isChallenge says that a client wants nothing but the answer to tls-alpn-01.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol
}

// challengeTLS is how such a connection goes on: it ends with its handshake (RFC 8737).
func (a *ACME) challengeTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{acmez.ACMETLS1Protocol},
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := a.folder.challenge(acme.ChallengeTypeTLSALPN01, plainName(hello.ServerName))
			if err != nil {
				return nil, err
			}
			a.counts.challenges[slices.Index(acmeChallenges, acme.ChallengeTypeTLSALPN01)].Add(1)
			return acmez.TLSALPN01ChallengeCert(c)
		},
	}
}

// signer is the key of a certificate or of an account.
type signer = crypto.Signer
