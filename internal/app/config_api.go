package app

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"tidegate/internal/api"
	"tidegate/internal/clickhouse"
)

// APIConfig is about the control plane's server.
type APIConfig struct {
	Addr      string // host:port; port 0 picks one
	RateLimit int    // requests of one token in 5 minutes, at one control plane; 0 for no limit
	// RouterTokenFile has a token that opens to routers what they need and nothing else: a
	// start that finds none there makes one. Empty for none.
	RouterTokenFile string
	AdminTokenFile  string // the first start writes the admin token here, mode 0600
	// AuditDays and DecisionDays are how long entries of the audit log and rollback decisions
	// are kept; 0 is for ever.
	AuditDays, DecisionDays int
}

// historyDays is 18 months, which is how long Cloudflare keeps its audit log:
// https://developers.cloudflare.com/fundamentals/account/account-security/review-audit-logs/.
// What the platform decided by itself is kept as long as what people did.
const historyDays = 550

func defaultAPI() APIConfig {
	return APIConfig{Addr: "127.0.0.1:8787", RateLimit: api.RateLimitDefault, AuditDays: historyDays, DecisionDays: historyDays}
}

func (c *APIConfig) bind(f *pflag.FlagSet, has func(Role) bool) {
	if !has(RoleAPI) {
		return
	}
	f.StringVar(&c.Addr, "api-addr", c.Addr, "address of the API and its start page")
	f.IntVar(&c.RateLimit, "api-rate-limit", c.RateLimit, "requests that one API token, and the sessions that stand for it, may send this control plane in 5 minutes; what routers ask is not counted. 0 for no limit")
	f.StringVar(&c.RouterTokenFile, "router-token-file", c.RouterTokenFile, "a start that finds no valid token in this file makes one for --api-token-file of routers, which opens what they need and nothing else; empty for none")
	f.StringVar(&c.AdminTokenFile, "admin-token-file", c.AdminTokenFile, "the first start writes the admin token to this file")
	f.IntVar(&c.AuditDays, "retention-audit-days", c.AuditDays, "days that the database keeps entries of the audit log, up to 18250; 0 for ever. The same for every control plane")
	f.IntVar(&c.DecisionDays, "retention-decisions-days", c.DecisionDays, "days that the database keeps rollback decisions, up to 18250, and in any case those about what serves; 0 for ever")
}

func (c *APIConfig) validate() error {
	faults := []error{ValidAddr("api-addr", c.Addr)}
	if c.RateLimit < 0 {
		faults = append(faults, fmt.Errorf("--api-rate-limit is %d: it must be 0, for no limit, or more", c.RateLimit))
	}
	for _, days := range []struct {
		flag  string
		value int
	}{{"retention-audit-days", c.AuditDays}, {"retention-decisions-days", c.DecisionDays}} {
		if days.value < 0 || days.value > clickhouse.RetentionDaysMax {
			faults = append(faults, fmt.Errorf("--%s is %d: it must be from 1 to %d, or 0, for ever", days.flag, days.value, clickhouse.RetentionDaysMax))
		}
	}
	return errors.Join(faults...)
}
