package rollback

import (
	"time"

	"tidegate/internal/deploy"
)

// transition is how long after a deployment a gateway may still draw by the one
// before: snapshots take milliseconds, and a moment more where a machine is busy. A
// gateway that is cut off takes longer; of settled seconds the realised share counts.
const transition = 5 * time.Second

// configured returns the largest share of the candidate in the requests of both versions
// of a trial that any gateway may have been told to draw in a second, from 0 to 1. steady
// is false in a second in which that may have been more than one. Deployments are newest
// first. If there may be older ones than these, nothing is known of a second before all of
// them: then the share is 1, which is evidence of nothing.
func configured(deployments []deploy.Deployment, t trial, second time.Time) (share float64, steady bool) {
	end := second.Add(time.Second)
	least := 1.0
	for _, d := range deployments {
		if !d.CreatedOn.Before(end) {
			continue
		}
		part := shareOfBoth(d, t)
		share, least = max(share, part), min(least, part)
		if !d.CreatedOn.Add(transition).After(second) {
			return share, share == least
		}
	}
	if len(deployments) < deploy.WatchedDeployments {
		return share, false // before the script's first deployment there was no traffic to draw
	}
	return 1, false
}

// shareOfBoth is the candidate's percentage over that of both versions.
func shareOfBoth(d deploy.Deployment, t trial) float64 {
	candidate, baseline := max(share(d, t.candidate), 0), max(share(d, t.baseline), 0)
	if candidate+baseline == 0 {
		return 0
	}
	return float64(candidate) / float64(candidate+baseline)
}
