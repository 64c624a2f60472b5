package api

import (
	"slices"

	"tidegate/internal/deploy"
)

// workerReferences are what depends on a worker. Clients require every list.
type workerReferences struct {
	Workers        []workerName      `json:"workers"` // by service bindings
	DurableObjects []objectUser      `json:"durable_objects"`
	Domains        []domainReference `json:"domains"`
	// Dispatch namespaces and queues do not exist here.
	DispatchOutbounds []struct{} `json:"dispatch_namespace_outbounds"`
	Queues            []struct{} `json:"queues"`
}

type workerName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type objectUser struct {
	NamespaceID   string `json:"namespace_id"`
	NamespaceName string `json:"namespace_name"`
	WorkerID      string `json:"worker_id"`
	WorkerName    string `json:"worker_name"`
}

type domainReference struct {
	ID            string `json:"id"`
	CertificateID string `json:"certificate_id"`
	Hostname      string `json:"hostname"`
	ZoneID        string `json:"zone_id"`
	ZoneName      string `json:"zone_name"`
}

// ties are what the references of all workers of an account are found in.
type ties struct {
	deploy.Ties
	ids     map[string]string // of workers, by name
	domains []deploy.Domain
}

func (s *Server) ties(r *request) (ties, error) {
	scripts, err := s.deps.Scripts.Scripts(r.ctx, r.account)
	if err != nil {
		return ties{}, err
	}
	found := ties{ids: make(map[string]string, len(scripts))}
	for _, script := range scripts {
		found.ids[script.Name] = script.Tag
	}
	if found.Ties, err = s.deps.Scripts.Ties(r.ctx, r.account); err != nil {
		return found, err
	}
	found.domains, err = s.deps.Triggers.Domains(r.ctx, r.account)
	return found, err
}

// of returns the references of a worker, each one once: two bindings of one worker
// are one.
func (t ties) of(script string) workerReferences {
	view := workerReferences{
		Workers: []workerName{}, DurableObjects: []objectUser{}, Domains: []domainReference{},
		DispatchOutbounds: []struct{}{}, Queues: []struct{}{},
	}
	found := t.References(script)
	for _, use := range found.Incoming {
		if id, there := t.ids[use.Script]; there { // it may have gone, or come, since the ids were read
			view.Workers = append(view.Workers, workerName{id, use.Script})
		}
	}
	for _, use := range found.DurableObjects {
		if id, there := t.ids[use.Script]; there {
			view.DurableObjects = append(view.DurableObjects, objectUser{use.NamespaceID, namespaceName(script, use.ClassName), id, use.Script})
		}
	}
	view.Workers, view.DurableObjects = slices.Compact(view.Workers), slices.Compact(view.DurableObjects)
	for _, d := range t.domains {
		if d.Script == script {
			domain := viewDomain(d)
			view.Domains = append(view.Domains, domainReference{domain.ID, domain.CertificateID, domain.Hostname, domain.ZoneID, domain.ZoneName})
		}
	}
	return view
}
