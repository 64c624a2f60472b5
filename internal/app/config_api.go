package app

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"tidegate/internal/api"
)

// APIConfig is about the control plane's server.
type APIConfig struct {
	Addr      string // host:port; port 0 picks one
	RateLimit int    // requests of one token in 5 minutes, at one control plane; 0 for no limit
	// RouterTokenFile has a token that opens to routers what they need and nothing else: a
	// start that finds none there makes one. Empty for none.
	RouterTokenFile string
	AdminTokenFile  string // the first start writes the admin token here, mode 0600
}

func defaultAPI() APIConfig {
	return APIConfig{Addr: "127.0.0.1:8787", RateLimit: api.RateLimitDefault}
}

func (c *APIConfig) bind(f *pflag.FlagSet, has func(Role) bool) {
	if !has(RoleAPI) {
		return
	}
	f.StringVar(&c.Addr, "api-addr", c.Addr, "address of the API and its start page")
	f.IntVar(&c.RateLimit, "api-rate-limit", c.RateLimit, "requests that one API token, and the sessions that stand for it, may send this control plane in 5 minutes; what routers ask is not counted. 0 for no limit")
	f.StringVar(&c.RouterTokenFile, "router-token-file", c.RouterTokenFile, "a start that finds no valid token in this file makes one for --api-token-file of routers, which opens what they need and nothing else; empty for none")
	f.StringVar(&c.AdminTokenFile, "admin-token-file", c.AdminTokenFile, "the first start writes the admin token to this file")
}

func (c *APIConfig) validate() error {
	var negative error
	if c.RateLimit < 0 {
		negative = fmt.Errorf("--api-rate-limit is %d: it must be 0, for no limit, or more", c.RateLimit)
	}
	return errors.Join(ValidAddr("api-addr", c.Addr), negative)
}
