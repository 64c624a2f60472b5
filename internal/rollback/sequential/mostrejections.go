package sequential

import "math"

// MostRejections is how many of so many independent trials, in each of which the null
// hypothesis is true, a test of level alpha may reject: if it keeps its level it rejects more
// with a probability of at most chance. It is exact, the tail of the binomial
// distribution (Clopper and Pearson, Biometrika 26, 1934: more than that is when alpha lies below
// the one-sided confidence interval of 1 − chance for the rate of rejections). Simulations are
// held to it. With an alpha or a chance that is none it is all of them.
func MostRejections(trials int, alpha, chance float64) int {
	if !(alpha > 0 && alpha < 1 && chance > 0 && chance < 1) {
		return max(trials, 0)
	}
	all, _ := math.Lgamma(float64(trials) + 1)
	tail := 0.0 // the probability of more than most
	for most := trials; most > 0; most-- {
		hits, _ := math.Lgamma(float64(most) + 1)
		misses, _ := math.Lgamma(float64(trials-most) + 1)
		tail += math.Exp(all - hits - misses + float64(most)*math.Log(alpha) + float64(trials-most)*math.Log1p(-alpha))
		if tail > chance {
			return most
		}
	}
	return 0
}
