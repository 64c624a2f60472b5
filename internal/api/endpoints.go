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

		account  = "/accounts/:account"
		scripts  = account + "/workers/scripts"
		script   = scripts + "/:script"
		policy   = script + "/rollback-policy"
		fallback = account + "/workers/rollback-policy" // of scripts without a policy
		workers  = account + "/workers/workers"
		worker   = workers + "/:worker"
		logpush  = account + "/logpush"
		zonePush = "/zones/:zone/logpush"
		letters  = logpush + "/jobs/:id/dead-letters"
		replays  = logpush + "/jobs/:id/replays"

		service     = account + "/workers/services/:script"
		environment = service + "/environments/:environment"
		domains     = account + "/workers/domains"
		zoneRoutes  = "/zones/:zone/workers/routes"
	)
	scopes := func(list ...control.Scope) access { return access{scopes: list} }
	var (
		anyToken   access
		operator   = access{operator: true}
		routers    = access{routers: true}
		admin      = scopes(control.Admin)
		logsRead   = mayReadLogs
		logsEdit   = scopes(control.LogsEdit) // also to read jobs: they hold credentials
		read       = scopes(control.ScriptsRead)
		edit       = scopes(control.ScriptsEdit)
		policyRead = scopes(control.ScriptsRead, control.PolicyEdit)
		policyEdit = scopes(control.PolicyEdit)
		watch      = mayTail
	)
	return []endpoint{
		{get, "/user", anyToken, byKind, s.getUser},
		{get, "/user/tokens/verify", anyToken, byKind, s.verifyToken},
		{get, "/user/tokens", operator, byKind, s.listOperatorTokens},
		{post, "/user/tokens", operator, byKind, s.createOperatorToken},
		{del, "/user/tokens/:id", operator, byKind, s.deleteOperatorToken},
		{put, "/user/tokens/:id/value", operator, byKind, s.rollOperatorToken},
		{get, "/memberships", anyToken, byKind, s.listMemberships},
		{get, "/accounts", anyToken, byKind, s.listAccounts},
		{post, "/accounts", operator, byKind, s.createAccount},
		{get, account, anyToken, byKind, s.getAccount},
		{patch, account, operator, byKind, s.patchAccount},
		{get, account + "/redaction", read, byKind, s.getRedaction},
		{put, account + "/redaction", admin, byKind, s.putRedaction},
		{del, account + "/redaction", admin, byKind, s.deleteRedaction},
		{get, account + "/deletions", logsRead, byKind, s.listDeletions},
		{post, account + "/deletions", admin, byKind, s.createDeletion},
		{get, account + "/deletions/:id", logsRead, byKind, s.getDeletion},
		{get, account + "/audit_logs", admin, byKind, s.asking(s.listAudit)},
		{get, account + "/tokens", admin, byKind, s.listTokens},
		{post, account + "/tokens", admin, byKind, s.createToken},
		{del, account + "/tokens/:id", admin, byKind, s.deleteToken},

		{get, scripts, read, byKind, s.listScripts},
		{del, script, edit, byKind, s.deleteScript},
		{get, script, read, byKind, s.getContent},
		{put, script, edit, byKind, s.putScript},
		{get, script + "/content", read, byKind, s.getContent},
		{put, script + "/content", edit, byKind, s.putContent},
		{get, script + "/content/v2", read, byKind, s.getContent},
		{get, script + "/settings", read, byKind, s.getSettings},
		{patch, script + "/settings", edit, byKind, s.patchSettings},
		{get, script + "/script-settings", read, byKind, s.getScriptSettings},
		{patch, script + "/script-settings", edit, byKind, s.patchScriptSettings},
		{get, script + "/usage-model", read, byKind, s.getUsageModel},
		{put, script + "/usage-model", edit, byKind, s.putUsageModel},
		{get, script + "/secrets", read, byKind, s.listSecrets},
		{put, script + "/secrets", edit, byKind, s.putSecret},
		{get, script + "/secrets/:name", read, byKind, s.getSecret},
		{del, script + "/secrets/:name", edit, byKind, s.deleteSecret},
		{patch, script + "/secrets-bulk", edit, byKind, s.patchSecrets},
		{get, script + "/routes", read, byKind, s.getRoutes},
		{put, script + "/routes", edit, byKind, s.putRoutes},
		{get, script + "/affinity", read, byKind, s.getAffinity},
		{put, script + "/affinity", edit, byKind, s.putAffinity},
		{del, script + "/affinity", edit, byKind, s.deleteAffinity},
		{get, script + "/sampling", read, byKind, s.getSampling},
		{put, script + "/sampling", edit, byKind, s.putSampling},
		{get, script + "/redaction", read, byKind, s.getRedaction},
		{put, script + "/redaction", edit, byKind, s.putRedaction},
		{del, script + "/redaction", edit, byKind, s.deleteRedaction},
		{get, script + "/versions", read, byKind, s.listVersions},
		{post, script + "/versions", edit, byKind, s.createVersion},
		{get, script + "/versions/:id", read, byKind, s.getVersion},
		{get, script + "/deployments", read, byKind, s.listDeployments},
		{post, script + "/deployments", edit, byKind, s.createDeployment},
		{get, script + "/deployments/:id", read, byKind, s.getDeployment},
		{del, script + "/deployments/:id", edit, byKind, s.deleteDeployment},
		{get, script + "/metrics", read, byKind, s.asking(s.getMetrics)},
		{get, script + "/metrics/compare", read, byKind, s.asking(s.compareVersions)},
		{get, script + "/events", watch, byKind, s.asking(s.listEvents)},
		{get, script + "/events/live", watch, byKind, s.watchEvents},
		{get, script + "/exceptions", watch, byKind, s.asking(s.listExceptions)},
		{get, account + "/workers/events/:ray", watch, byKind, s.asking(s.getRay)},
		{get, account + "/workers/calls", read, byKind, s.asking(s.listCalls)},
		{get, account + "/workers/metrics", read, byKind, s.asking(s.getOverview)},
		{get, account + "/workers/serving", read, byKind, s.listServing},

		{get, workers, read, byKind, s.listWorkers},
		{post, workers, edit, byKind, s.createWorker},
		{get, worker, read, byKind, s.getWorker},
		{patch, worker, edit, byKind, s.patchWorker},
		{put, worker, edit, byKind, s.putWorker},
		{del, worker, edit, byKind, s.deleteWorker},
		{get, worker + "/versions", read, byKind, s.listWorkerVersions},
		{post, worker + "/versions", edit, byKind, s.createWorkerVersion},
		{patch, worker + "/versions/latest", edit, byKind, s.patchLatestVersion},
		{get, worker + "/versions/:id", read, byKind, s.getWorkerVersion},
		{del, worker + "/versions/:id", edit, byKind, s.deleteWorkerVersion},

		{get, policy, policyRead, byKind, s.getPolicy},
		{put, policy, policyEdit, byKind, s.putPolicy},
		{del, policy, policyEdit, byKind, s.deletePolicy},
		{get, policy + "/revisions", policyRead, byKind, s.listPolicyRevisions},
		{post, policy + "/backtest", policyRead, byKind, s.backtestPolicy},
		{get, policy + "/evidence", policyRead, byKind, s.asking(s.getEvidence)},
		{get, fallback, policyRead, byKind, s.getPolicy},
		{put, fallback, policyEdit, byKind, s.putPolicy},
		{del, fallback, policyEdit, byKind, s.deletePolicy},
		{get, fallback + "/revisions", policyRead, byKind, s.listPolicyRevisions},
		{get, policy + "/ramp", policyRead, byKind, s.getRamp},
		{post, policy + "/ramp", policyEdit, byKind, s.controlRamp},
		{get, script + "/rollback-decisions", policyRead, byKind, s.listDecisions},
		{get, script + "/rollback-decisions/:id", policyRead, byKind, s.getDecision},
		{get, script + "/rollback-notifications", policyRead, byKind, s.listNotifications},
		{post, policy + "/notify-test", policyEdit, byKind, s.testNotify},

		{get, logpush + "/jobs", logsEdit, codeLogpush, s.listJobs},
		{post, logpush + "/jobs", logsEdit, codeLogpush, s.createJob},
		{get, logpush + "/jobs/:id", logsEdit, codeLogpush, s.getJob},
		{put, logpush + "/jobs/:id", logsEdit, codeLogpush, s.updateJob},
		{del, logpush + "/jobs/:id", logsEdit, codeLogpush, s.deleteJob},
		{get, logpush + "/jobs/:id/health", logsRead, codeLogpush, s.getHealth},
		{get, logpush + "/health", logsRead, codeLogpush, s.listHealth},
		{get, logpush + "/alerts", logsEdit, codeLogpush, s.getAlerts},
		{put, logpush + "/alerts", logsEdit, codeLogpush, s.putAlerts},
		{del, logpush + "/alerts", logsEdit, codeLogpush, s.deleteAlerts},
		{post, graphPath, anyToken, byKind, s.queryGraph}, // each of its fields has a scope
		{post, logpush + "/jobs/:id/replay", logsEdit, codeLogpush, s.createReplay},
		{get, replays, logsEdit, codeLogpush, s.listReplays},
		{post, replays, logsEdit, codeLogpush, s.createReplay},
		{get, replays + "/:replay", logsEdit, codeLogpush, s.getReplay},
		{del, replays + "/:replay", logsEdit, codeLogpush, s.cancelReplay},
		{post, replays + "/:replay/cancel", logsEdit, codeLogpush, s.cancelReplay},
		{post, logpush + "/jobs/:id/test", logsEdit, codeLogpush, s.previewJob},
		{post, logpush + "/test", logsEdit, codeLogpush, s.previewNewJob},
		{get, letters, logsEdit, codeLogpush, s.listLetters},
		{post, letters + "/resend", logsEdit, codeLogpush, s.resendLetters},
		{get, letters + "/:letter", logsEdit, codeLogpush, s.getLetter},
		{del, letters + "/:letter", logsEdit, codeLogpush, s.deleteLetter},
		{get, letters + "/:letter/content", logsEdit, codeLogpush, s.getLetterContent},
		{post, letters + "/:letter/resend", logsEdit, codeLogpush, s.resendLetter},
		{get, logpush + "/datasets/:dataset/fields", logsRead, codeLogpush, s.listFields},
		{get, logpush + "/datasets/:dataset/fields/default", logsRead, codeLogpush, s.listDefaultFields},
		{get, logpush + "/datasets/:dataset/filter-keys", logsRead, codeLogpush, s.listFilterKeys},
		{get, logpush + "/datasets/:dataset/jobs", logsEdit, codeLogpush, s.listDatasetJobs},
		{post, logpush + "/validate/destination", logsEdit, codeLogpush, s.validateDestination},
		{post, logpush + "/ownership", logsEdit, codeLogpush, s.challengeOwnership},
		{post, logpush + "/ownership/validate", logsEdit, codeLogpush, s.validateOwnership},
		{post, logpush + "/validate/destination/exists", logsEdit, codeLogpush, s.destinationExists},
		{post, logpush + "/validate/origin", logsEdit, codeLogpush, s.validateOrigin},
		{get, logpush + "/edge/jobs", logsRead, codeLogpush, s.listInstantLogs},
		{post, logpush + "/edge/jobs", logsRead, codeLogpush, s.createInstantLogs},
		{get, logpush + "/transformers", logsEdit, codeLogpush, s.refuseTransformers},
		{post, logpush + "/transformers", logsEdit, codeLogpush, s.refuseTransformers},
		{post, logpush + "/transformers/preview", logsEdit, codeLogpush, s.refuseTransformers},
		{get, logpush + "/transformers/:id", logsEdit, codeLogpush, s.refuseTransformers},
		{put, logpush + "/transformers/:id", logsEdit, codeLogpush, s.refuseTransformers},
		{del, logpush + "/transformers/:id", logsEdit, codeLogpush, s.refuseTransformers},
		{get, logpush + "/transformers/:id/content", logsEdit, codeLogpush, s.refuseTransformers},
		{get, logpush + "/transformers/:id/versions", logsEdit, codeLogpush, s.refuseTransformers},

		{get, zonePush + "/jobs", logsEdit, codeLogpush, s.listNoJobs},
		{post, zonePush + "/jobs", logsEdit, codeLogpush, s.createZoneJob},
		{get, zonePush + "/jobs/:id", logsEdit, codeLogpush, s.noZoneJob},
		{put, zonePush + "/jobs/:id", logsEdit, codeLogpush, s.noZoneJob},
		{del, zonePush + "/jobs/:id", logsEdit, codeLogpush, s.noZoneJob},
		{get, zonePush + "/datasets/:dataset/fields", logsRead, codeLogpush, s.listFields},
		{get, zonePush + "/datasets/:dataset/fields/default", logsRead, codeLogpush, s.listDefaultFields},
		{get, zonePush + "/datasets/:dataset/jobs", logsEdit, codeLogpush, s.listNoDatasetJobs},
		{post, zonePush + "/ownership", logsEdit, codeLogpush, s.refuseZoneOwnership},
		{post, zonePush + "/ownership/validate", logsEdit, codeLogpush, s.refuseZoneOwnership},
		{post, zonePush + "/validate/destination", logsEdit, codeLogpush, s.validateDestination},
		{post, zonePush + "/validate/destination/exists", logsEdit, codeLogpush, s.zoneDestinationExists},
		{post, zonePush + "/validate/origin", logsEdit, codeLogpush, s.validateOrigin},
		{get, zonePush + "/edge/jobs", logsRead, codeLogpush, s.listInstantLogs},
		{post, zonePush + "/edge/jobs", logsRead, codeLogpush, s.createInstantLogs},

		{get, service, read, byKind, s.getService},
		{del, service, edit, byKind, s.deleteService},
		{get, environment, read, byKind, s.getEnvironment},
		{get, environment + "/bindings", read, byKind, s.getEnvironmentBindings},
		{get, environment + "/routes", read, byKind, s.getEnvironmentRoutes},
		{get, environment + "/subdomain", read, byKind, s.getEnvironmentSubdomain},
		{get, script + "/references", read, byKind, s.getReferences},
		{get, account + "/workers/tails/by-consumer/:script", read, byKind, s.listTailConsumption},
		{get, account + "/workers/durable_objects/namespaces", read, byKind, s.listNamespaces},
		{get, account + "/workers/durable_objects/namespaces/:id/objects", read, byKind, s.listObjects},
		{get, account + "/containers/applications", read, byKind, s.listNoContainers},
		{get, account + "/storage/kv/namespaces", read, byKind, s.listNoNamespaces},
		{get, account + "/workers/subdomain", read, byKind, s.getSubdomain},
		{put, account + "/workers/subdomain", admin, byKind, s.putSubdomain},
		{get, account + "/workers/subdomains/:name", read, byKind, s.findSubdomain},
		{get, script + "/subdomain", read, byKind, s.getScriptSubdomain},
		{post, script + "/subdomain", edit, byKind, s.postScriptSubdomain},
		{del, script + "/subdomain", edit, byKind, s.deleteScriptSubdomain},
		{get, script + "/schedules", read, byKind, s.getSchedules},
		{put, script + "/schedules", edit, byKind, s.putSchedules},
		{get, script + "/tails", watch, byKind, s.listTails},
		{post, script + "/tails", watch, byKind, s.createTail},
		{del, script + "/tails/:id", watch, byKind, s.deleteTail},
		{post, script + "/domains/changeset", read, byKind, s.domainChangeset},
		{put, script + "/domains/records", edit, byKind, s.putScriptDomains},
		{get, domains, read, byKind, s.listDomains},
		{put, domains, edit, byKind, s.attachDomain},
		{get, domains + "/records", read, byKind, s.listDomains},
		{get, domains + "/records/:id", read, byKind, s.getDomain},
		{get, domains + "/:id", read, byKind, s.getDomain},
		{del, domains + "/:id", edit, byKind, s.deleteDomain},
		{get, "/zones", read, byKind, s.listZones},
		{get, zoneRoutes, read, byKind, s.listZoneRoutes},
		{post, zoneRoutes, edit, byKind, s.createZoneRoute},
		{get, zoneRoutes + "/:id", read, byKind, s.getZoneRoute},
		{put, zoneRoutes + "/:id", edit, byKind, s.putZoneRoute},
		{del, zoneRoutes + "/:id", edit, byKind, s.deleteZoneRoute},

		{get, account + "/routing/snapshot", read, byKind, s.getSnapshot},
		// They have the text of secrets, and code.
		{get, account + "/routing/versions/:id", routers, byKind, s.getBundle},
		{get, account + "/routing/modules/:sha256", routers, byKind, s.getModule},
		{get, "/routing/snapshot", routers, byKind, s.getWholeSnapshot},
		{put, "/routing/reports", routers, byKind, s.putReports},
		{put, "/routing/routers/:router", routers, byKind, s.putRouter},
		{get, systemHealthPath, operator, byKind, s.getSystemHealth},
		{post, "/routing/cron-claims", routers, byKind, s.claimCron},
	}
}
