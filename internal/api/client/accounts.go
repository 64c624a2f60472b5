package client

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"tidegate/schema/control"
)

type accountWire struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Subdomain string    `json:"subdomain"`
	CreatedOn time.Time `json:"created_on"`
	Settings  struct {
		MaxVersions int `json:"max_versions"`
		MaxJobs     int `json:"max_jobs"`
	} `json:"settings"`
}

func (w accountWire) account() control.Account {
	return control.Account{
		ID: w.ID, Name: w.Name, Subdomain: w.Subdomain, CreatedOn: w.CreatedOn,
		MaxVersions: w.Settings.MaxVersions, MaxJobs: w.Settings.MaxJobs,
	}
}

func pageQuery(page int) string { return "?per_page=100&page=" + strconv.Itoa(page) }

// Accounts returns every account that the token opens.
func (c *Client) Accounts(ctx context.Context) ([]control.Account, error) {
	var list []control.Account
	for page := 1; ; page++ {
		var batch []accountWire
		total, err := c.call(ctx, http.MethodGet, "/accounts"+pageQuery(page), nil, &batch)
		if err != nil {
			return nil, err
		}
		for _, w := range batch {
			list = append(list, w.account())
		}
		if len(batch) == 0 || len(list) >= total {
			return list, nil
		}
	}
}

// Account returns one account.
func (c *Client) Account(ctx context.Context, id string) (control.Account, error) {
	w, err := get[accountWire](ctx, c, accountPath(id))
	return w.account(), err
}

// CreateAccount needs the operator's token.
func (c *Client) CreateAccount(ctx context.Context, name string) (control.Account, error) {
	w, err := send[accountWire](ctx, c, http.MethodPost, "/accounts", map[string]string{"name": name})
	return w.account(), err
}

// UpdateAccount needs the operator's token.
func (c *Client) UpdateAccount(ctx context.Context, id string, u control.AccountUpdate) (control.Account, error) {
	settings := make(map[string]int)
	if u.MaxVersions != nil {
		settings["max_versions"] = *u.MaxVersions
	}
	if u.MaxJobs != nil {
		settings["max_jobs"] = *u.MaxJobs
	}
	body := map[string]any{"settings": settings}
	if u.Name != nil {
		body["name"] = *u.Name
	}
	w, err := send[accountWire](ctx, c, http.MethodPatch, accountPath(id), body)
	return w.account(), err
}

type tokenWire struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Email      string          `json:"email"`
	Scopes     []control.Scope `json:"scopes"`
	IssuedOn   time.Time       `json:"issued_on"`
	ExpiresOn  time.Time       `json:"expires_on"`
	LastUsedOn time.Time       `json:"last_used_on"`
	Value      string          `json:"value"`
}

func (w tokenWire) token(accountID string) control.Token {
	return control.Token{
		ID: w.ID, AccountID: accountID, Name: w.Name, Email: w.Email, Scopes: w.Scopes,
		CreatedOn: w.IssuedOn, ExpiresOn: w.ExpiresOn, LastUsedOn: w.LastUsedOn,
	}
}

// Tokens returns the tokens of an account.
func (c *Client) Tokens(ctx context.Context, accountID string) ([]control.Token, error) {
	return c.tokens(ctx, accountPath(accountID, "tokens"), accountID)
}

func (c *Client) tokens(ctx context.Context, path, accountID string) ([]control.Token, error) {
	wires, err := get[[]tokenWire](ctx, c, path)
	list := make([]control.Token, len(wires))
	for i, w := range wires {
		list[i] = w.token(accountID)
	}
	return list, err
}

// CreateToken makes a token of t.AccountID with the name, scopes, expiry and, if
// it is set, email of t. The secret cannot be had again.
func (c *Client) CreateToken(ctx context.Context, t control.Token) (created control.Token, secret string, err error) {
	return c.createToken(ctx, accountPath(t.AccountID, "tokens"), t)
}

func (c *Client) createToken(ctx context.Context, path string, t control.Token) (created control.Token, secret string, err error) {
	body := map[string]any{"name": t.Name, "scopes": t.Scopes}
	if t.Email != "" {
		body["email"] = t.Email
	}
	if !t.ExpiresOn.IsZero() {
		body["expires_on"] = t.ExpiresOn
	}
	w, err := send[tokenWire](ctx, c, http.MethodPost, path, body)
	return w.token(t.AccountID), w.Value, err
}

// DeleteToken ends a token.
func (c *Client) DeleteToken(ctx context.Context, accountID, id string) error {
	return c.delete(ctx, accountPath(accountID, "tokens", id))
}

func operatorTokenPath(rest ...string) string {
	return join(append([]string{"user", "tokens"}, rest...)...)
}

// CreateOperatorToken makes an operator's token with the name, expiry and, if it is set, email of
// t. This, and what follows, needs the operator's token. The secret cannot be had again.
func (c *Client) CreateOperatorToken(ctx context.Context, t control.Token) (created control.Token, secret string, err error) {
	t.AccountID, t.Scopes = "", []control.Scope{control.Admin}
	return c.createToken(ctx, operatorTokenPath(), t)
}

// OperatorTokens returns operators' tokens.
func (c *Client) OperatorTokens(ctx context.Context) ([]control.Token, error) {
	return c.tokens(ctx, operatorTokenPath(), "")
}

// DeleteOperatorToken ends an operator's token.
func (c *Client) DeleteOperatorToken(ctx context.Context, id string) error {
	return c.delete(ctx, operatorTokenPath(id))
}

// RollOperatorToken gives an operator's token another secret, which cannot be had again.
func (c *Client) RollOperatorToken(ctx context.Context, id string) (secret string, err error) {
	return send[string](ctx, c, http.MethodPut, operatorTokenPath(id, "value"), nil)
}
