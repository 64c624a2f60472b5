package api

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Tidegate keeps no zones: whoever points a name's DNS here may route it. Clients
// ask for the zone of a route nevertheless, so each account has one for every
// domain name that could be registered. Its id follows from account and name.

// zoneName returns the domain name that a host is registered under, or the host
// itself where there is no such thing, as with localhost.
func zoneName(host string) string {
	name, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return name
}

func zoneID(accountID, name string) string { return hashID("zone", accountID, name) }

// hashID is the id of something that is found by its name: 32 hex digits.
func hashID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// zoneStatus is that of every zone.
const zoneStatus = "active"

// zoneView has what clients require of a zone. There is no DNS and no plan behind
// it, and it is as old as its account.
type zoneView struct {
	ID                  string      `json:"id"`
	Name                string      `json:"name"`
	Status              string      `json:"status"`
	Account             zoneAccount `json:"account"`
	Owner               zoneAccount `json:"owner"`
	CreatedOn           timestamp   `json:"created_on"`
	ModifiedOn          timestamp   `json:"modified_on"`
	ActivatedOn         timestamp   `json:"activated_on"`
	DevelopmentMode     int         `json:"development_mode"` // 0: never on
	NameServers         []string    `json:"name_servers"`
	OriginalNameServers []string    `json:"original_name_servers"` // null, as the next two: nothing moved here
	OriginalDNSHost     *string     `json:"original_dnshost"`
	OriginalRegistrar   *string     `json:"original_registrar"`
	Meta                struct{}    `json:"meta"`
	Plan                struct{}    `json:"plan"`
}

func viewZone(a control.Account, name string) zoneView {
	of, since := zoneAccount{a.ID, a.Name}, timestamp(a.CreatedOn)
	return zoneView{
		ID: zoneID(a.ID, name), Name: name, Status: zoneStatus, Account: of, Owner: of,
		CreatedOn: since, ModifiedOn: since, ActivatedOn: since, NameServers: []string{},
	}
}

type zoneAccount struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// listZones answers a question for a name whether or not something is routed there
// yet, and otherwise with the zones that have routes or custom domains.
func (s *Server) listZones(r *request) (any, error) {
	accounts, err := s.zoneAccounts(r)
	if err != nil {
		return nil, err
	}
	accounts = accountsNamed(accounts, r.gin.Query("account.name"))
	wanted := strings.ToLower(r.gin.Query("name"))
	if strings.Contains(wanted, ":") {
		return nil, errs.New(errs.Invalid, 0, "name is %q: operators such as contains: are not supported, ask for a whole name", shown(wanted))
	}
	if status := r.gin.Query("status"); status != "" && status != zoneStatus {
		accounts = nil
	}
	list := []zoneView{}
	for _, a := range accounts {
		names := []string{}
		if wanted == "" {
			if names, err = s.zonesInUse(r, a.ID); err != nil {
				return nil, err
			}
		} else if name, err := publicsuffix.EffectiveTLDPlusOne(wanted); err == nil && name == wanted && checkHostname(wanted) == nil {
			names = append(names, wanted)
		}
		for _, name := range names {
			list = append(list, viewZone(a, name))
		}
	}
	return paged(r, list)
}

// zoneAccounts are the accounts that the caller may see, or the one that is asked for.
func (s *Server) zoneAccounts(r *request) ([]control.Account, error) {
	accounts, err := s.visibleAccounts(r)
	asked := r.gin.Query("account.id")
	if err != nil || asked == "" {
		return accounts, err
	}
	i := slices.IndexFunc(accounts, func(a control.Account) bool { return a.ID == asked })
	if i < 0 {
		return nil, errs.New(errs.Forbidden, codeForeign, "%s does not open account %q", r.noun(), shown(asked))
	}
	return accounts[i : i+1], nil
}

func (s *Server) zonesInUse(r *request, accountID string) ([]string, error) {
	scripts, err := s.deps.Scripts.Scripts(r.ctx, accountID)
	if err != nil {
		return nil, err
	}
	domains, err := s.deps.Triggers.Domains(r.ctx, accountID)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, script := range scripts {
		for _, pattern := range script.Routes {
			if name, ok := routeZone(pattern); ok {
				names = append(names, name)
			}
		}
	}
	for _, d := range domains {
		names = append(names, zoneName(d.Hostname))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// routeZone returns the zone of a valid pattern; one of every host has none.
func routeZone(pattern string) (string, bool) {
	route, err := deploy.ParseRoute(pattern)
	if err != nil || route.EveryHost() {
		return "", false
	}
	return zoneName(route.Host), true
}

// routeID is the same as long as the pattern is.
func routeID(accountID, pattern string) string { return hashID("route", accountID, pattern) }

// zoneRoute is a route that was found below a zone.
type zoneRoute struct {
	accountID string
	route     deploy.ScriptRoute
}

func (z zoneRoute) view() routeView {
	return viewRoute(z.accountID, z.route.Pattern, z.route.Script)
}

// zoneRoutes finds what is routed in a zone. One that nobody has cannot be told
// from one that is empty.
func (s *Server) zoneRoutes(r *request) ([]zoneRoute, error) {
	accounts, err := s.visibleAccounts(r)
	if err != nil {
		return nil, err
	}
	list := []zoneRoute{}
	for _, a := range accounts {
		scripts, err := s.deps.Scripts.Scripts(r.ctx, a.ID)
		if err != nil {
			return nil, err
		}
		for _, script := range scripts {
			for _, pattern := range script.Routes {
				if name, ok := routeZone(pattern); ok && zoneID(a.ID, name) == r.param("zone") {
					list = append(list, zoneRoute{a.ID, deploy.ScriptRoute{Pattern: pattern, Script: script.Name}})
				}
			}
		}
	}
	return list, nil
}

func (s *Server) findZoneRoute(r *request) (zoneRoute, error) {
	list, err := s.zoneRoutes(r)
	if err != nil {
		return zoneRoute{}, err
	}
	for _, z := range list {
		if routeID(z.accountID, z.route.Pattern) == r.param("id") {
			return z, nil
		}
	}
	return zoneRoute{}, errs.New(errs.NotFound, 0, "route %q does not exist in this zone", shown(r.param("id")))
}

func (s *Server) listZoneRoutes(r *request) (any, error) {
	list, err := s.zoneRoutes(r)
	return views(list, zoneRoute.view), err
}

func (s *Server) getZoneRoute(r *request) (any, error) {
	z, err := s.findZoneRoute(r)
	return z.view(), err
}

func (s *Server) createZoneRoute(r *request) (any, error) {
	z, err := s.decodeZoneRoute(r)
	if err != nil {
		return nil, err
	}
	return z.view(), s.deps.Triggers.MoveRoute(r.ctx, z.accountID, deploy.ScriptRoute{}, z.route)
}

func (s *Server) putZoneRoute(r *request) (any, error) {
	to, err := s.decodeZoneRoute(r)
	if err != nil {
		return nil, err
	}
	from, err := s.findZoneRoute(r)
	if err != nil {
		return nil, err
	}
	return to.view(), s.deps.Triggers.MoveRoute(r.ctx, from.accountID, from.route, to.route)
}

func (s *Server) deleteZoneRoute(r *request) (any, error) {
	z, err := s.findZoneRoute(r)
	if err != nil {
		return nil, err
	}
	return idView{r.param("id")}, s.deps.Triggers.MoveRoute(r.ctx, z.accountID, z.route, deploy.ScriptRoute{})
}

// decodeZoneRoute finds the account by what the pattern's zone would be in each.
func (s *Server) decodeZoneRoute(r *request) (zoneRoute, error) {
	var body struct {
		Pattern string `json:"pattern"`
		Script  string `json:"script"`
	}
	if err := r.decode(&body); err != nil {
		return zoneRoute{}, err
	}
	if body.Script == "" {
		return zoneRoute{}, errs.New(errs.Invalid, 0, "script is missing: a route that leads to none is not supported").At("/script")
	}
	pattern, err := checkRoute(body.Pattern)
	if err != nil {
		return zoneRoute{}, atPointer(err, "/pattern")
	}
	accounts, err := s.visibleAccounts(r)
	if err != nil {
		return zoneRoute{}, err
	}
	if name, ok := routeZone(pattern); ok {
		for _, a := range accounts {
			if zoneID(a.ID, name) == r.param("zone") {
				return zoneRoute{a.ID, deploy.ScriptRoute{Pattern: pattern, Script: body.Script}}, nil
			}
		}
	}
	return zoneRoute{}, errs.New(errs.Invalid, 0, "pattern %q is not in this zone: ask /zones?name= for the zone of its host", pattern).At("/pattern")
}
