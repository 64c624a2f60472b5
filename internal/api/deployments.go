package api

import (
	"errors"
	"fmt"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// atPointer points a user's error at a member; other errors stay as they are.
func atPointer(err error, pointer string) error {
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return e.At(pointer)
	}
	return err
}

// deploymentView is a deployment with its time in the API's form.
type deploymentView struct {
	deploy.Deployment
	CreatedOn timestamp `json:"created_on"`
}

func viewDeployment(d deploy.Deployment) deploymentView {
	return deploymentView{d, timestamp(d.CreatedOn)}
}

func (s *Server) listDeployments(r *request) (any, error) {
	list, err := s.deps.Scripts.Deployments(r.ctx, r.account, r.script())
	return struct {
		Deployments []deploymentView `json:"deployments"`
	}{views(list, viewDeployment)}, err
}

func (s *Server) getDeployment(r *request) (any, error) {
	d, err := s.deps.Scripts.Deployment(r.ctx, r.account, r.script(), r.param("id"))
	return viewDeployment(d), err
}

func (s *Server) deleteDeployment(r *request) (any, error) {
	return nil, s.deps.Scripts.DeleteDeployment(r.ctx, r.account, r.script(), r.param("id"))
}

func (s *Server) createDeployment(r *request) (any, error) {
	var body struct {
		Strategy string `json:"strategy"`
		Versions []struct {
			VersionID  *string            `json:"version_id"`
			Percentage *deploy.Percentage `json:"percentage"`
		} `json:"versions"`
		Annotations *struct {
			Message     *string `json:"workers/message"`
			TriggeredBy *string `json:"workers/triggered_by"`
		} `json:"annotations"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Strategy != "percentage" {
		return nil, errs.New(errs.Invalid, 0, `strategy %q must be "percentage"`, shown(body.Strategy)).At("/strategy")
	}
	d := deploy.Deployment{Versions: make([]deploy.Split, len(body.Versions))}
	for i, v := range body.Versions {
		if v.VersionID == nil || v.Percentage == nil {
			return nil, errs.New(errs.Invalid, 0, "versions[%d] must have version_id and percentage", i).At(fmt.Sprintf("/versions/%d", i))
		}
		d.Versions[i] = deploy.Split{VersionID: *v.VersionID, Percentage: *v.Percentage}
	}
	if body.Annotations != nil {
		checked := annotationsBody{Message: body.Annotations.Message, TriggeredBy: body.Annotations.TriggeredBy}
		annotations, err := checked.check("/annotations", r.script())
		if err != nil {
			return nil, err
		}
		d.Annotations = annotations
	}
	d.Annotations.TriggeredBy = "deployment"
	d, err := s.deps.Scripts.Deploy(r.ctx, r.account, r.script(), d, "")
	return viewDeployment(d), err
}
