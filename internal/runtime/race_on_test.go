//go:build race

package runtime

// raceDetector says that sync.Pool drops things at random and that all is slow.
const raceDetector = true
