package api

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
)

// destinationTestTimeout bounds the test upload, which a person waits for.
const destinationTestTimeout = 30 * time.Second

// jobView is a job with its times in the API's form. Only callers with logs:edit
// get one, so it shows the credentials in destination_conf, as Cloudflare does.
type jobView struct {
	logjob.Job
	LastComplete *timestamp `json:"last_complete"`
	LastError    *timestamp `json:"last_error"`
}

func viewJob(j logjob.Job) jobView {
	return jobView{j, (*timestamp)(j.LastComplete), (*timestamp)(j.LastError)}
}

// showJob answers with one job. The tag is that of its settings: health changes
// without a person's doing.
func (r *request) showJob(j logjob.Job) jobView {
	r.setETag(j.Revision)
	return viewJob(j)
}

func (s *Server) listJobs(r *request) (any, error) {
	list, err := s.deps.Jobs.AccountJobs(r.ctx, r.account)
	return views(list, viewJob), err
}

func (s *Server) listDatasetJobs(r *request) (any, error) {
	dataset := r.param("dataset")
	if err := checkDataset(dataset); err != nil {
		return nil, err
	}
	list, err := s.deps.Jobs.AccountJobs(r.ctx, r.account)
	list = slices.DeleteFunc(list, func(j logjob.Job) bool { return j.Dataset != dataset })
	return views(list, viewJob), err
}

func (r *request) jobID() (int64, error) {
	id, err := strconv.ParseInt(r.param("id"), 10, 64)
	if err != nil {
		return 0, errs.New(errs.NotFound, 0, "job %q does not exist in this account: an id is a whole number", shown(r.param("id")))
	}
	return id, nil
}

func (s *Server) job(r *request) (logjob.Job, error) {
	id, err := r.jobID()
	if err != nil {
		return logjob.Job{}, err
	}
	return s.deps.Jobs.Job(r.ctx, r.account, id)
}

func (s *Server) getJob(r *request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	return r.showJob(j), nil
}

// jobBody is what comes to create or change a job. Clients send back what they have
// read, so members that only answers have are let pass, and of them only the id means something.
type jobBody struct {
	logjob.Update
	ID           *int64          `json:"id"`
	LastComplete json.RawMessage `json:"last_complete"`
	LastError    json.RawMessage `json:"last_error"`
	ErrorMessage json.RawMessage `json:"error_message"`
}

// createJob looks at what costs least first: the values, the quota, the proof of
// ownership, and at last whether the destination takes anything.
func (s *Server) createJob(r *request) (any, error) {
	var body jobBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.ID != nil {
		return nil, errs.New(errs.Invalid, 0, "id is %d: a job gets its id when it is created", *body.ID).At("/id")
	}
	j := logjob.New(r.account)
	if err := body.Apply(&j); err != nil {
		return nil, err
	}
	if err := checkStart(&j); err != nil {
		return nil, err
	}
	if err := s.deps.Jobs.JobQuota(r.ctx, r.account, j.Dataset, s.jobsMax); err != nil {
		return nil, err
	}
	if err := s.acceptDestination(r, j.DestinationConf, body.OwnershipChallenge); err != nil {
		return nil, err
	}
	j, err := s.deps.Jobs.CreateJob(r.ctx, j, s.jobsMax)
	if err != nil {
		return nil, err
	}
	return r.showJob(j), nil
}

func (s *Server) updateJob(r *request) (any, error) {
	var body jobBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	if body.ID != nil && *body.ID != j.ID {
		return nil, errs.New(errs.Invalid, 0, "id cannot be changed from %d to %d", j.ID, *body.ID).At("/id")
	}
	if err := r.checkIfMatch(j.Revision); err != nil {
		return nil, err
	}
	before := j.DestinationConf
	if err := body.Apply(&j); err != nil {
		return nil, err
	}
	if j.DestinationConf != before {
		if err := s.acceptDestination(r, j.DestinationConf, body.OwnershipChallenge); err != nil {
			return nil, err
		}
	}
	if j, err = s.deps.Jobs.UpdateJob(r.ctx, j); err != nil {
		return nil, err
	}
	return r.showJob(j), nil
}

func (s *Server) deleteJob(r *request) (any, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	var revision int64 // any
	if r.hasIfMatch() {
		j, err := s.job(r)
		if err != nil {
			return nil, err
		}
		if err := r.checkIfMatch(j.Revision); err != nil {
			return nil, err
		}
		revision = j.Revision
	}
	return struct {
		ID int64 `json:"id"`
	}{id}, s.deps.Jobs.DeleteJob(r.ctx, r.account, id, revision)
}

// acceptDestination refuses one that its caller has not proved to own, where that
// is asked for, and one that does not take a test upload.
func (s *Server) acceptDestination(r *request, conf string, challenge *string) error {
	if err := s.checkOwnership(r, conf, challenge); err != nil {
		return err
	}
	return s.testDestination(r.ctx, conf)
}

func (s *Server) testDestination(ctx context.Context, conf string) error {
	ctx, cancel := context.WithTimeout(ctx, destinationTestTimeout)
	defer cancel()
	return destinationError(s.deps.Destinations.Test(ctx, conf))
}

// destinationError is for what a destination did at a test, or did not do in time.
func destinationError(err error) error {
	if _, whole := errors.AsType[*errs.Error](err); err == nil || whole {
		return err
	}
	return errs.New(errs.Invalid, codeLogpush, "error validating destination: %v", err).At("/destination_conf")
}

func checkDataset(name string) error {
	if name != schema.Dataset {
		return errs.New(errs.NotFound, 0, "dataset %q is not available: the only one is %q", shown(name), schema.Dataset)
	}
	return nil
}

func (s *Server) listFields(r *request) (any, error) {
	return describeFields(r.param("dataset"), func(schema.Field) bool { return true })
}

func (s *Server) listDefaultFields(r *request) (any, error) {
	return describeFields(r.param("dataset"), func(f schema.Field) bool { return !f.Extension })
}

func describeFields(dataset string, keep func(schema.Field) bool) (any, error) {
	if err := checkDataset(dataset); err != nil {
		return nil, err
	}
	fields := make(map[string]string, len(schema.Fields))
	for _, f := range schema.Fields {
		if keep(f) {
			fields[f.Name] = f.Description
		}
	}
	return fields, nil
}

// listFilterKeys answers what filters can look at, and how.
func (s *Server) listFilterKeys(r *request) (any, error) {
	return logjob.FilterKeys(), checkDataset(r.param("dataset"))
}

// refuseTransformers answers every call about transformers, with the status that
// Cloudflare has for accounts without them.
func (s *Server) refuseTransformers(*request) (any, error) {
	return nil, errs.New(errs.Forbidden, codeNotAllowed,
		"transformer feature is not available for this account: Tidegate does not support transformers; a job's filter, output_options and record_template choose and shape what it sends")
}
