package rollback

import (
	"slices"
	"time"

	"tidegate/internal/deploy"
)

// seriesMax is how many points tell the way of a test.
const seriesMax = 120

// series keeps points of a way that may be long: when there are too many, every second
// one is left out, and from then on only every second one is taken.
type series struct {
	points []deploy.EvidencePoint
	// every is how many points are one; since counts those after the last one that was
	// taken.
	every, since int
}

func (s *series) add(at time.Time, logE float64) {
	if s.every == 0 {
		s.every = 1
	}
	if s.since++; s.since < s.every {
		return
	}
	s.since = 0
	s.points = append(s.points, deploy.EvidencePoint{At: at, LogE: logE})
	if len(s.points) > seriesMax {
		s.points = slices.DeleteFunc(s.points, everySecond())
		s.every *= 2
	}
}

// everySecond is true for every second time that it is called, but not for the first.
func everySecond() func(deploy.EvidencePoint) bool {
	odd := true
	return func(deploy.EvidencePoint) bool {
		odd = !odd
		return odd
	}
}

// clone is a series that goes its own way.
func (s series) clone() series {
	s.points = slices.Clone(s.points)
	return s
}

// until is the series with the present as its last point, at most seriesMax of them.
func (s series) until(at time.Time, logE float64) []deploy.EvidencePoint {
	points := slices.Clone(s.points)
	now := deploy.EvidencePoint{At: at, LogE: logE}
	if n := len(points); n > 0 && (n >= seriesMax || !points[n-1].At.Before(at)) {
		points[n-1] = now
		return points
	}
	return append(points, now)
}
