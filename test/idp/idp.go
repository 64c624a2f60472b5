// Package idp is an identity provider on loopback: a complete OpenID provider, with pages on
// which people sign in, whose answers tests may falsify.
package idp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The clients that the provider knows. ConfidentialID has a secret, PublicID none.
const (
	ConfidentialID = "tidegate"
	PublicID       = "tidegate-public"
	Secret         = "correct horse"
)

// User is somebody whom the provider knows. There are no passwords: whoever comes says who
// they are.
type User struct {
	ID            string
	Name          string
	Email         string
	EmailVerified bool
	Groups        []string // nil: there is no such claim
}

// Provider is such a server.
type Provider struct {
	Issuer string

	server  *httptest.Server
	storage *directory
	clients map[string]*storage.Client

	mu    sync.Mutex
	forge func(claims map[string]any) (idToken string)
}

// Start begins to serve. Nobody can sign in before ComeBackTo.
func Start(users ...User) (*Provider, error) {
	server := httptest.NewUnstartedServer(nil)
	p := &Provider{Issuer: "http://" + server.Listener.Addr().String(), server: server, clients: map[string]*storage.Client{}}
	known, groups := people{}, map[string][]string{}
	for _, u := range users {
		known[u.ID], groups[u.ID] = u, u.Groups
	}
	p.storage = &directory{known: known, groups: groups, Storage: storage.NewStorageWithClients(known, p.clients)}
	provider, err := op.NewProvider(&op.Config{CryptoKey: sha256.Sum256([]byte(p.Issuer)), CryptoKeyId: "sealing", CodeMethodS256: true, AuthMethodPost: true},
		p.storage, op.StaticIssuer(p.Issuer), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		server.Close()
		return nil, err
	}
	intercept := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/username", p.askWho)
	mux.HandleFunc("POST /login/username", intercept.HandlerFunc(p.signIn(op.AuthCallbackURL(provider))))
	mux.Handle("POST /oauth/token", p.forged(provider))
	mux.Handle("/", provider)
	server.Config.Handler = mux
	server.Start()
	return p, nil
}

// ComeBackTo says where both clients may send people back to. It is called before anybody
// signs in.
func (p *Provider) ComeBackTo(redirect string) {
	p.clients[ConfidentialID] = storage.WebClient(ConfidentialID, Secret, redirect)
	p.clients[PublicID] = storage.NativeClient(PublicID, redirect)
}

// Close stops serving.
func (p *Provider) Close() { p.server.Close() }

// Forge has every ID token replaced by what f makes of its claims; nil for none.
func (p *Provider) Forge(f func(claims map[string]any) (idToken string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forge = f
}

// SetGroups of somebody, from their next signing in on.
func (p *Provider) SetGroups(id string, groups ...string) {
	p.storage.mu.Lock()
	defer p.storage.mu.Unlock()
	p.storage.groups[id] = groups
}

// Sign makes an ID token as the provider would.
func (p *Provider) Sign(claims map[string]any) string {
	key, err := p.storage.SigningKey(context.Background())
	if err != nil {
		panic(err) // it is in memory
	}
	return Sign(claims, key.SignatureAlgorithm(), key.Key(), key.ID())
}

// Sign makes an ID token with any key.
func Sign(claims map[string]any, algorithm jose.SignatureAlgorithm, key any, keyID string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: keyID}}, nil)
	if err != nil {
		panic(err) // the caller's mistake
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

// Unsigned makes an ID token of the algorithm none.
func Unsigned(claims map[string]any) string {
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(text) + "."
}

// forged passes the answers with tokens through Forge.
func (p *Provider) forged(provider http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := httptest.NewRecorder()
		provider.ServeHTTP(recorded, r)
		body := recorded.Body.Bytes()
		var answer map[string]any
		p.mu.Lock()
		forge := p.forge
		p.mu.Unlock()
		if recorded.Code == http.StatusOK && forge != nil && json.Unmarshal(body, &answer) == nil {
			answer["id_token"] = forge(claimsOf(answer["id_token"].(string)))
			body, _ = json.Marshal(answer) // it was JSON
		}
		for name, values := range recorded.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(recorded.Code)
		_, _ = io.Copy(w, bytes.NewReader(body)) // who has left need not know
	})
}

func claimsOf(token string) map[string]any {
	var claims map[string]any
	parts := strings.Split(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		panic(fmt.Sprintf("the provider has made an ID token that is none: %v", err))
	}
	return claims
}

var page = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en"><title>Identity provider</title>
<h1>Who are you?</h1>
<form method="post" action="/login/username">
<input type="hidden" name="id" value="{{.ID}}">
{{range .Users}}<button name="user" value="{{.ID}}">{{.Name}}</button>
{{end}}</form>
</html>
`))

func (p *Provider) askWho(w http.ResponseWriter, r *http.Request) {
	_ = page.Execute(w, struct { // who has left need not know
		ID    string
		Users people
	}{r.FormValue("authRequestID"), p.storage.known})
}

func (p *Provider) signIn(back func(context.Context, string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.FormValue("id")
		if err := p.storage.CheckUsernamePassword(r.FormValue("user"), password, id); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.Redirect(w, r, back(r.Context(), id), http.StatusFound)
	}
}
