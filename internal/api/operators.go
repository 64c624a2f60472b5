package api

import (
	"slices"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Operators' tokens are of no account, as Cloudflare's tokens of users are, and have their paths.

func (s *Server) listOperatorTokens(r *request) (any, error) {
	list, err := s.deps.Tokens.OperatorTokens(r.ctx)
	if err != nil {
		return nil, err
	}
	list, err = onePage(r, list)
	return views(list, s.viewToken), err
}

func (s *Server) createOperatorToken(r *request) (any, error) {
	var body tokenBody
	token, err := s.tokenOf(r, &body)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(body.Scopes, func(name string) bool { return name != string(control.Admin) }); i >= 0 {
		return nil, errs.New(errs.Invalid, 0, "scopes has %q: an operator's token has %s, in every account. Make one of an account for less", shown(body.Scopes[i]), control.Admin).At("/scopes")
	}
	token, secret, err := s.deps.Tokens.CreateOperatorToken(r.ctx, token)
	view := s.viewToken(token)
	view.Value = secret
	return view, err
}

func (s *Server) deleteOperatorToken(r *request) (any, error) {
	return idView{r.param("id")}, s.deps.Tokens.DeleteOperatorToken(r.ctx, r.param("id"))
}

// rollOperatorToken answers with the new secret alone, as Cloudflare does.
func (s *Server) rollOperatorToken(r *request) (any, error) {
	return s.deps.Tokens.RollOperatorToken(r.ctx, r.param("id"))
}
