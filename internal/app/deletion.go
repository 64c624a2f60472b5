package app

import (
	"fmt"
	"os"

	"github.com/google/uuid"

	"tidegate/internal/deletion"
)

// addDeletions adds the worker that removes what people ask the API to delete. Any number
// of processes may have one: a lease in the database lets one of them act.
func (p *process) addDeletions() error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this process in the lease: %w", err)
	}
	worker := deletion.New(deletion.Config{
		Holder: host + "/" + uuid.NewString(), Tables: p.rates, Deletions: p.store, Letters: p.store, Leases: p.store, Log: p.log,
	})
	p.services = append(p.services, service{"deletions", stageEdge, worker.Run})
	return nil
}
