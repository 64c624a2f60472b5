package api

import (
	"slices"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
)

// validity answers a question about a value. It comes with status 200 whatever it
// says: that is the answer to the question.
type validity struct {
	Message string `json:"message"`
	Valid   bool   `json:"valid"`
}

func viewValidity(err error) validity {
	if err != nil {
		return validity{Message: err.Error()}
	}
	return validity{Valid: true}
}

// destinationBody is the body of three of the questions.
type destinationBody struct {
	DestinationConf *string `json:"destination_conf"`
}

func (r *request) destination() (string, error) {
	var body destinationBody
	if err := r.decode(&body); err != nil {
		return "", err
	}
	return given("destination_conf", body.DestinationConf)
}

// given returns a member that must be there.
func given[T any](name string, value *T) (given T, err error) {
	if value == nil {
		return given, errs.New(errs.Invalid, 0, "%s is missing", name).At("/" + name)
	}
	return *value, nil
}

func (s *Server) validateDestination(r *request) (any, error) {
	conf, err := r.destination()
	if err != nil {
		return nil, err
	}
	if err = checkConf(conf); err == nil {
		err = s.tryDestination(r, conf)
	}
	if r.ctx.Err() != nil {
		return nil, r.ctx.Err()
	}
	return viewValidity(err), nil
}

// tryDestination tests a destination for somebody who need not have proved that it is theirs. Where that would write with
// the operator's credentials, it does not.
func (s *Server) tryDestination(r *request, conf string) error {
	needed, err := s.deps.Destinations.NeedsChallenge(conf)
	if err != nil {
		return err
	}
	if needed && !r.rights.Operator() {
		return errs.New(errs.Invalid, codeLogpush, "this destination is written to with the operator's credentials, and so is tried only when a job is made or changed "+
			"that proves who owns it: POST the destination_conf to %s", ownershipPath).At("/destination_conf")
	}
	return s.testDestination(r.ctx, conf)
}

// checkConf is what a job would say of its destination without connecting to it.
func checkConf(conf string) error {
	dataset := schema.Dataset
	probe := logjob.New("")
	return (&logjob.Update{Dataset: &dataset, DestinationConf: &conf}).Apply(&probe)
}

func (s *Server) destinationExists(r *request) (any, error) {
	conf, err := r.destination()
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Jobs.AccountJobs(r.ctx, r.account)
	return existence{slices.ContainsFunc(list, func(j logjob.Job) bool { return j.DestinationConf == conf })}, err
}

type existence struct {
	Exists bool `json:"exists"`
}

// validateOrigin is about logpull_options, which once named what the origin of logs
// should give.
func (s *Server) validateOrigin(r *request) (any, error) {
	var body struct {
		LogpullOptions *string `json:"logpull_options"`
		Dataset        *string `json:"dataset"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	options, err := given("logpull_options", body.LogpullOptions)
	if err != nil {
		return nil, err
	}
	if body.Dataset != nil {
		if err := checkDataset(*body.Dataset); err != nil {
			return viewValidity(err), nil
		}
	}
	_, err = logjob.ParseLogpullOptions(options)
	return viewValidity(err), nil
}
