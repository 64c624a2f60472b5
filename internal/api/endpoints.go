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
	scopes := func(list ...control.Scope) access { return access{scopes: list} }
	var (
		anyToken   access
		operator   = access{operator: true}
		admin      = scopes(control.Admin)
		logsRead   = scopes(control.LogsRead)
		logsEdit   = scopes(control.LogsEdit) // also to read jobs: they hold credentials
		read       = scopes(control.ScriptsRead)
		edit       = scopes(control.ScriptsEdit)
		policyRead = scopes(control.ScriptsRead, control.PolicyEdit)
		policyEdit = scopes(control.PolicyEdit)
	)
	return []endpoint{
		{get, "/user", anyToken, byKind, s.getUser},
		{get, "/user/tokens/verify", anyToken, byKind, s.verifyToken},
		{get, "/memberships", anyToken, byKind, s.listMemberships},
		{get, "/accounts", anyToken, byKind, s.listAccounts},
		{post, "/accounts", operator, byKind, s.createAccount},
		{get, account, anyToken, byKind, s.getAccount},
		{patch, account, operator, byKind, s.patchAccount},
		{get, account + "/tokens", admin, byKind, s.listTokens},
		{post, account + "/tokens", admin, byKind, s.createToken},
		{del, account + "/tokens/:id", admin, byKind, s.deleteToken},

		{get, scripts, read, byKind, s.listScripts},
		{del, script, edit, byKind, s.deleteScript},
		{get, script + "/script-settings", read, byKind, s.getSettings},
		{patch, script + "/script-settings", edit, byKind, s.patchSettings},
		{get, script + "/routes", read, byKind, s.getRoutes},
		{put, script + "/routes", edit, byKind, s.putRoutes},
		{get, script + "/versions", read, byKind, s.listVersions},
		{post, script + "/versions", edit, byKind, s.createVersion},
		{get, script + "/versions/:id", read, byKind, s.getVersion},
		{get, script + "/deployments", read, byKind, s.listDeployments},
		{post, script + "/deployments", edit, byKind, s.createDeployment},
		{get, script + "/deployments/:id", read, byKind, s.getDeployment},
		{del, script + "/deployments/:id", edit, byKind, s.deleteDeployment},
		{get, script + "/metrics", read, byKind, s.getMetrics},

		{get, policy, policyRead, byKind, s.getPolicy},
		{put, policy, policyEdit, byKind, s.putPolicy},
		{del, policy, policyEdit, byKind, s.deletePolicy},
		{get, policy + "/ramp", policyRead, byKind, s.getRamp},
		{post, policy + "/ramp", policyEdit, byKind, s.controlRamp},
		{get, script + "/rollback-decisions", policyRead, byKind, s.listDecisions},

		{get, logpush + "/jobs", logsEdit, codeLogpush, s.listJobs},
		{post, logpush + "/jobs", logsEdit, codeLogpush, s.createJob},
		{get, logpush + "/jobs/:id", logsEdit, codeLogpush, s.getJob},
		{put, logpush + "/jobs/:id", logsEdit, codeLogpush, s.updateJob},
		{del, logpush + "/jobs/:id", logsEdit, codeLogpush, s.deleteJob},
		{get, logpush + "/datasets/:dataset/fields", logsRead, codeLogpush, s.listFields},
		{get, logpush + "/datasets/:dataset/fields/default", logsRead, codeLogpush, s.listDefaultFields},
		{get, logpush + "/datasets/:dataset/jobs", logsEdit, codeLogpush, s.listDatasetJobs},
		{post, logpush + "/validate/destination", logsEdit, codeLogpush, s.validateDestination},
		{post, logpush + "/validate/destination/exists", logsEdit, codeLogpush, s.destinationExists},

		{get, account + "/routing/snapshot", read, byKind, s.getSnapshot},
		{get, "/routing/snapshot", operator, byKind, s.getWholeSnapshot},
		{put, "/routing/reports", operator, byKind, s.putReports},
		{post, "/routing/cron-claims", operator, byKind, s.claimCron},
	}
}
