package idp

import (
	"context"
	"strings"
	"sync"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// password of everybody: nobody is asked for it.
const password = "-"

// people are the users by their ids, which are their names for signing in, too.
type people map[string]User

// GetUserByID implements storage.UserStore.
func (p people) GetUserByID(id string) *storage.User {
	u, ok := p[id]
	if !ok {
		return nil
	}
	first, last, _ := strings.Cut(u.Name, " ")
	return &storage.User{ID: u.ID, Username: u.ID, Password: password, FirstName: first, LastName: last, Email: u.Email, EmailVerified: u.EmailVerified}
}

// GetUserByUsername implements storage.UserStore.
func (p people) GetUserByUsername(name string) *storage.User { return p.GetUserByID(name) }

// ExampleClientID implements storage.UserStore.
func (p people) ExampleClientID() string { return storage.ServiceUserID }

// directory adds groups to what the provider tells of users.
type directory struct {
	*storage.Storage
	known people

	mu     sync.Mutex
	groups map[string][]string // by user; under mu
}

// SetUserinfoFromToken implements op.Storage.
func (d *directory) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, subject, origin string) error {
	if err := d.Storage.SetUserinfoFromToken(ctx, info, tokenID, subject, origin); err != nil {
		return err
	}
	if !info.EmailVerified { // which would be left out
		info.AppendClaims("email_verified", false)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if groups := d.groups[info.Subject]; groups != nil {
		info.AppendClaims("groups", groups)
	}
	return nil
}
