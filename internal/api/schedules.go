package api

import (
	"fmt"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// schedulesMax of a script: each one is a timer on every gateway.
const schedulesMax = 100

type scheduleView struct {
	Cron       string    `json:"cron"`
	CreatedOn  timestamp `json:"created_on"`
	ModifiedOn timestamp `json:"modified_on"`
}

func (s *Server) getSchedules(r *request) (any, error) {
	list, err := s.deps.Triggers.Schedules(r.ctx, r.account, r.script())
	return struct {
		Schedules []scheduleView `json:"schedules"`
	}{views(list, func(one deploy.Schedule) scheduleView {
		return scheduleView{one.Cron, timestamp(one.CreatedOn), timestamp(one.CreatedOn)}
	})}, err
}

func (s *Server) putSchedules(r *request) (any, error) {
	var body []struct {
		Cron string `json:"cron"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body == nil {
		return nil, errs.New(errs.Invalid, 0, "the body is null: it must be an array")
	}
	if len(body) > schedulesMax {
		return nil, errs.New(errs.Invalid, 0, "the body has %d schedules: at most %d are allowed", len(body), schedulesMax)
	}
	crons := make([]string, 0, len(body))
	for i, schedule := range body {
		cron := strings.Join(strings.Fields(schedule.Cron), " ")
		_, err := deploy.ParseCron(cron)
		if err == nil && slices.Contains(crons, cron) {
			err = errs.New(errs.Invalid, 0, "cron %q is repeated", cron)
		}
		if err != nil {
			return nil, atPointer(err, fmt.Sprintf("/%d/cron", i))
		}
		crons = append(crons, cron)
	}
	if err := s.deps.Triggers.SetSchedules(r.ctx, r.account, r.script(), crons); err != nil {
		return nil, err
	}
	return s.getSchedules(r)
}
