package app

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/rollback"
)

// addRollback adds the controller that judges deployments, and what tells of its
// decisions. Any number of processes may play this role: a lease in the database lets
// one of them act, and one for each message lets one of them send it.
func (p *process) addRollback(context.Context) error {
	notifier, err := p.notifications()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this process in the lease: %w", err)
	}
	controller, err := rollback.New(rollback.Config{
		Holder: host + "/" + uuid.NewString(), Rates: p.rates, Deployments: tellingStore{p.store, notifier.Wake}, Leases: p.store, Log: p.log, Now: time.Now,
	})
	if err != nil {
		return err
	}
	p.services = append(p.services, service{"rollback", stageEdge, controller.Run}, service{"notifications", stageEdge, notifier.Run})
	return nil
}
