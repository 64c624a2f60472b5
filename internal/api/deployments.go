package api

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

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
	CreatedOn     timestamp       `json:"created_on"`
	VersionStatus []versionStatus `json:"version_status,omitempty"`
}

func viewDeployment(d deploy.Deployment) deploymentView {
	return deploymentView{Deployment: d, CreatedOn: timestamp(d.CreatedOn)}
}

func (s *Server) listDeployments(r *request) (any, error) {
	list, err := s.deps.Scripts.Deployments(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	statuses, err := s.versionStatuses(r, list...)
	if err != nil {
		return nil, err
	}
	shown := views(list, viewDeployment)
	for i := range shown {
		shown[i].VersionStatus = statuses[i]
	}
	return struct {
		Deployments []deploymentView `json:"deployments"`
	}{shown}, nil
}

func (s *Server) getDeployment(r *request) (any, error) {
	d, err := s.deps.Scripts.Deployment(r.ctx, r.account, r.script(), r.param("id"))
	if err != nil {
		return nil, err
	}
	statuses, err := s.versionStatuses(r, d)
	if err != nil {
		return nil, err
	}
	view := viewDeployment(d)
	view.VersionStatus = statuses[0]
	return view, nil
}

func (s *Server) deleteDeployment(r *request) (any, error) {
	return nil, s.deps.Scripts.DeleteDeployment(r.ctx, r.account, r.script(), r.param("id"))
}

type deploymentBody struct {
	Strategy string `json:"strategy"`
	Versions []struct {
		VersionID  *string  `json:"version_id"`
		Percentage *float64 `json:"percentage"` // as sent: deploy.RoundShares
	} `json:"versions"`
	Annotations *struct {
		Message     *string `json:"workers/message"`
		TriggeredBy *string `json:"workers/triggered_by"`
	} `json:"annotations"`
	CodeUpdate *codeUpdateBody `json:"code_update_strategy"`
}

func (s *Server) createDeployment(r *request) (any, error) {
	var body deploymentBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Strategy != "percentage" {
		return nil, errs.New(errs.Invalid, 0, `strategy %q must be "percentage"`, shown(body.Strategy)).At("/strategy")
	}
	splits, err := body.splits()
	if err != nil {
		return nil, err
	}
	d := deploy.Deployment{Versions: splits}
	if d.CodeUpdate, err = body.CodeUpdate.effective(); err != nil {
		return nil, err
	}
	if body.Annotations != nil {
		checked := annotationsBody{Message: body.Annotations.Message, TriggeredBy: body.Annotations.TriggeredBy}
		if d.Annotations, err = checked.check("/annotations", r.script()); err != nil {
			return nil, err
		}
	}
	d.Annotations.TriggeredBy = "deployment"
	ifServing, err := r.ifServing()
	if err != nil {
		return nil, err
	}
	force, err := r.boolQuery("force")
	if err != nil {
		return nil, err
	}
	put := s.deps.Scripts.Deploy
	if force {
		put = s.deps.Scripts.DeployForced
	}
	d, err = put(r.ctx, r.account, r.script(), d, ifServing)
	return viewDeployment(d), err
}

// ifServing is the deployment that the caller means to replace; empty for any.
func (r *request) ifServing() (string, error) {
	id := r.gin.Query("if_serving")
	if id != "" && id != "none" && uuid.Validate(id) != nil {
		return "", errs.New(errs.Invalid, 0, `if_serving is %q: it must be the id of a deployment, or "none"`, shown(id))
	}
	return id, nil
}

func (b *deploymentBody) splits() ([]deploy.Split, error) {
	splits := make([]deploy.Split, len(b.Versions))
	percents := make([]float64, len(b.Versions))
	for i, v := range b.Versions {
		at := fmt.Sprintf("/versions/%d", i)
		if v.VersionID == nil || v.Percentage == nil {
			return nil, errs.New(errs.Invalid, 0, "versions[%d] must have version_id and percentage", i).At(at)
		}
		if uuid.Validate(*v.VersionID) != nil {
			return nil, errs.New(errs.Invalid, 0, "versions[%d].version_id %q is not a UUID", i, shown(*v.VersionID)).At(at + "/version_id")
		}
		splits[i].VersionID, percents[i] = *v.VersionID, *v.Percentage
	}
	shares, err := deploy.RoundShares(percents)
	for i, share := range shares {
		splits[i].Percentage = share
	}
	return splits, err
}
