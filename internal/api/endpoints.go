package api

import (
	"net/http"

	"tidegate/schema/control"
)

// endpoints is the whole API. schema/openapi.yaml lists the same paths; a test
// holds the two together.
func (s *Server) endpoints() []endpoint {
	const (
		get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete

		account = "/accounts/:account"
		scripts = account + "/workers/scripts"
		script  = scripts + "/:script"
		policy  = script + "/rollback-policy"
		logpush = account + "/logpush"
	)
	scopes := func(list ...control.Scope) []control.Scope { return list }
	var (
		anyToken   []control.Scope
		admin      = scopes(control.Admin)
		logsRead   = scopes(control.LogsRead)
		logsEdit   = scopes(control.LogsEdit) // also to read jobs: they hold credentials
		read       = scopes(control.ScriptsRead)
		edit       = scopes(control.ScriptsEdit)
		policyRead = scopes(control.ScriptsRead, control.PolicyEdit)
		policyEdit = scopes(control.PolicyEdit)
	)
	return []endpoint{
		{get, "/user", anyToken, false, s.getUser},
		{get, "/user/tokens/verify", anyToken, false, s.verifyToken},
		{get, "/memberships", anyToken, false, s.listMemberships},
		{get, "/accounts", anyToken, false, s.listAccounts},
		{post, "/accounts", admin, true, s.createAccount},
		{get, account, anyToken, false, s.getAccount},
		{get, account + "/tokens", admin, false, s.listTokens},
		{post, account + "/tokens", admin, false, s.createToken},
		{del, account + "/tokens/:id", admin, false, s.deleteToken},

		{get, scripts, read, false, s.listScripts},
		{del, script, edit, false, s.deleteScript},
		{get, script + "/script-settings", read, false, s.getSettings},
		{patch, script + "/script-settings", edit, false, s.patchSettings},
		{get, script + "/routes", read, false, s.getRoutes},
		{put, script + "/routes", edit, false, s.putRoutes},
		{get, script + "/versions", read, false, s.listVersions},
		{post, script + "/versions", edit, false, s.createVersion},
		{get, script + "/versions/:id", read, false, s.getVersion},
		{get, script + "/deployments", read, false, s.listDeployments},
		{post, script + "/deployments", edit, false, s.createDeployment},
		{get, script + "/deployments/:id", read, false, s.getDeployment},
		{del, script + "/deployments/:id", edit, false, s.deleteDeployment},
		{get, script + "/metrics", read, false, s.getMetrics},

		{get, policy, policyRead, false, s.getPolicy},
		{put, policy, policyEdit, false, s.putPolicy},
		{del, policy, policyEdit, false, s.deletePolicy},
		{get, policy + "/ramp", policyRead, false, s.getRamp},
		{post, policy + "/ramp", policyEdit, false, s.controlRamp},
		{get, script + "/rollback-decisions", policyRead, false, s.listDecisions},

		{get, logpush + "/jobs", logsEdit, false, s.listJobs},
		{post, logpush + "/jobs", logsEdit, false, s.createJob},
		{get, logpush + "/jobs/:id", logsEdit, false, s.getJob},
		{put, logpush + "/jobs/:id", logsEdit, false, s.updateJob},
		{del, logpush + "/jobs/:id", logsEdit, false, s.deleteJob},
		{get, logpush + "/datasets/:dataset/fields", logsRead, false, s.listFields},
		{get, logpush + "/datasets/:dataset/fields/default", logsRead, false, s.listDefaultFields},
		{get, logpush + "/datasets/:dataset/jobs", logsEdit, false, s.listDatasetJobs},
		{post, logpush + "/validate/destination", logsEdit, false, s.validateDestination},
		{post, logpush + "/validate/destination/exists", logsEdit, false, s.destinationExists},

		{get, account + "/routing/snapshot", read, false, s.getSnapshot},
		{get, "/routing/snapshot", admin, true, s.getSnapshot},
	}
}
