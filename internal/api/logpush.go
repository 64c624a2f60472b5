package api

import (
	"context"
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
	return viewJob(j), err
}

func (s *Server) createJob(r *request) (any, error) {
	var update logjob.Update
	if err := r.decode(&update); err != nil {
		return nil, err
	}
	j := logjob.New(r.account)
	if err := update.Apply(&j); err != nil {
		return nil, err
	}
	if err := s.checkStart(r.ctx, &j); err != nil {
		return nil, err
	}
	if err := s.testDestination(r.ctx, j.DestinationConf); err != nil {
		return nil, err
	}
	j, err := s.deps.Jobs.CreateJob(r.ctx, j)
	return viewJob(j), err
}

func (s *Server) updateJob(r *request) (any, error) {
	var update logjob.Update
	if err := r.decode(&update); err != nil {
		return nil, err
	}
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	before := j.DestinationConf
	if err := update.Apply(&j); err != nil {
		return nil, err
	}
	if j.DestinationConf != before {
		if err := s.testDestination(r.ctx, j.DestinationConf); err != nil {
			return nil, err
		}
	}
	j, err = s.deps.Jobs.UpdateJob(r.ctx, j)
	return viewJob(j), err
}

func (s *Server) deleteJob(r *request) (any, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	return struct {
		ID int64 `json:"id"`
	}{id}, s.deps.Jobs.DeleteJob(r.ctx, r.account, id)
}

func (s *Server) testDestination(ctx context.Context, conf string) error {
	ctx, cancel := context.WithTimeout(ctx, destinationTestTimeout)
	defer cancel()
	err := s.deps.Destinations.Test(ctx, conf)
	if _, whole := errors.AsType[*errs.Error](err); err == nil || whole {
		return err
	}
	return errs.New(errs.Invalid, codeLogpush, "error validating destination: %v", err).At("/destination_conf")
}

// destinationBody is the body of the two validations.
type destinationBody struct {
	DestinationConf *string `json:"destination_conf"`
}

func (r *request) destination() (string, error) {
	var body destinationBody
	if err := r.decode(&body); err != nil {
		return "", err
	}
	if body.DestinationConf == nil {
		return "", errs.New(errs.Invalid, 0, "destination_conf is missing").At("/destination_conf")
	}
	return *body.DestinationConf, nil
}

// validateDestination answers 200 also for a destination that is not valid: that
// is the answer to the question.
func (s *Server) validateDestination(r *request) (any, error) {
	conf, err := r.destination()
	if err != nil {
		return nil, err
	}
	dataset := schema.Dataset
	update := logjob.Update{Dataset: &dataset, DestinationConf: &conf}
	probe := logjob.New(r.account)
	err = update.Apply(&probe)
	if err == nil {
		err = s.testDestination(r.ctx, conf)
	}
	if r.ctx.Err() != nil {
		return nil, r.ctx.Err()
	}
	answer := struct {
		Message string `json:"message"`
		Valid   bool   `json:"valid"`
	}{Valid: err == nil}
	if err != nil {
		answer.Message = err.Error()
	}
	return answer, nil
}

func (s *Server) destinationExists(r *request) (any, error) {
	conf, err := r.destination()
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Jobs.AccountJobs(r.ctx, r.account)
	return struct {
		Exists bool `json:"exists"`
	}{slices.ContainsFunc(list, func(j logjob.Job) bool { return j.DestinationConf == conf })}, err
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
