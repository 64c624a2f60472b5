package api

import (
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
)

// The one dataset belongs to accounts, so a zone has no jobs. Clients ask zones for
// them nevertheless, and get the answers of a zone without any.

func (s *Server) listNoJobs(*request) (any, error) { return views(nil, viewJob), nil }

func (s *Server) listNoDatasetJobs(r *request) (any, error) {
	return views(nil, viewJob), checkDataset(r.param("dataset"))
}

func (s *Server) noZoneJob(r *request) (any, error) {
	return nil, errs.New(errs.NotFound, 0, "job %q does not exist in this zone: jobs of %s belong to accounts", shown(r.param("id")), schema.Dataset)
}

// createZoneJob names what is wrong with the job before it says that no job would do.
func (s *Server) createZoneJob(r *request) (any, error) {
	var body jobBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	probe := logjob.New("")
	if err := body.Apply(&probe); err != nil {
		return nil, err
	}
	return nil, errs.New(errs.Invalid, 0, "dataset %q is account-scoped: create the job under /accounts/{account_id}/logpush/jobs", probe.Dataset).At("/dataset")
}

// refuseZoneOwnership refuses to write a challenge that no job could need.
func (s *Server) refuseZoneOwnership(*request) (any, error) {
	return nil, errs.New(errs.Invalid, 0, "a zone has no jobs of %s that could need a challenge: ask for it under /accounts/{account_id}/logpush/ownership", schema.Dataset)
}

func (s *Server) zoneDestinationExists(r *request) (any, error) {
	_, err := r.destination()
	return existence{}, err
}
