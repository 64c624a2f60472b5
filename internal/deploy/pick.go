package deploy

import (
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"tidegate/schema"
)

// Facts is what a request says about the version it wants. The zero value wants
// nothing and leaves the choice to the percentages.
type Facts struct {
	Override string // version id asked for this script; ignored unless it is in the deployment
	Key      string // affinity key: equal keys get equal versions for the whole of a deployment
	Rule     int    // the number, from 1, of the affinity rule that Key is from; 0 if the client sent it. Pick does not look at it
}

// Choice is the version that serves a request, and why.
type Choice struct {
	Index  int    // into the script's Splits
	Reason string // one of schema's Decision constants
}

// Pick chooses the version of one request: the override if the deployment holds
// it, at 0 % too, else by key, else by dice, which must be uniform over all of
// uint64. A version at 0 % is reached by override only. The script must be part
// of a snapshot that passed Validate and have a deployment.
//
// Pick allocates nothing and is safe for concurrent use.
func Pick(s *SnapshotScript, facts Facts, dice uint64) Choice {
	if facts.Override != "" {
		for i := range s.Splits {
			if s.Splits[i].VersionID == facts.Override {
				return Choice{i, schema.DecisionOverride}
			}
		}
	}
	if i, ok := only(s.Splits); ok {
		return Choice{i, schema.DecisionOnly}
	}
	if facts.Key != "" {
		return Choice{pickByKey(s.Splits, facts.Key), schema.DecisionAffinity}
	}
	return Choice{pickByDice(s.Splits, dice), schema.DecisionSplit}
}

// PickObject returns the index of the version that runs the Durable Object with the
// id, 64 hex digits: by its id and the percentages alone, so that everybody who
// knows the deployment agrees. While the share of one version grows and that of no
// other does, no object leaves it. The splits must have passed ValidateSplits.
//
// PickObject allocates nothing and is safe for concurrent use.
func PickObject(splits []Split, id string) int {
	if i, ok := only(splits); ok {
		return i
	}
	return pickByKey(splits, id)
}

// only returns the single version with a share, if there is just one.
func only(splits []Split) (index int, ok bool) {
	index = -1
	for i := range splits {
		if splits[i].Percentage > 0 {
			if index >= 0 {
				return 0, false
			}
			index = i
		}
	}
	return index, index >= 0
}

// pickByDice scales dice to the sum of the shares, which may be off 100 % by
// 0.001, and walks up to it. The bias of the scaling is below 2^-46.
func pickByDice(splits []Split, dice uint64) int {
	var sum uint64
	for i := range splits {
		sum += uint64(splits[i].Percentage)
	}
	point, _ := bits.Mul64(dice, sum)
	for i := range splits {
		share := uint64(splits[i].Percentage)
		if point < share {
			return i
		}
		point -= share
	}
	panic("deploy: no version has a share") // only returned false, so two have
}

// pickByKey is weighted rendezvous hashing (Schindelhauer and Schomaker, 2005):
// every version draws w/-ln(u) with u from a hash of key and version, and the
// largest wins. Each version gets keys in proportion to its share; raising one
// share moves keys to that version only, so nobody moves back while it grows.
func pickByKey(splits []Split, key string) int {
	keyHash := xxhash.Sum64String(key)
	best, bestScore := -1, 0.0
	for i := range splits {
		weight := float64(splits[i].Percentage)
		if weight == 0 {
			continue
		}
		h := mix(keyHash ^ mix(xxhash.Sum64String(splits[i].VersionID)))
		// 53 bits and a half: never 0, whose logarithm is infinite, and never 1.
		u := (float64(h>>11) + 0.5) / (1 << 53)
		if score := weight / -math.Log(u); best < 0 || score > bestScore {
			best, bestScore = i, score
		}
	}
	return best
}

// mix is the finalizer of splitmix64 (Steele, Lea and Flood, 2014). It spreads a
// difference in any bit over the whole word, so that the draws of two versions
// for one key are independent. Changing it moves every key: it is part of the
// contract, and pick_test.go holds golden values.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
