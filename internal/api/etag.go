package api

import (
	"strconv"
	"strings"

	"tidegate/internal/errs"
)

// setETag tags an answer with the revision of what it shows.
func (r *request) setETag(revision int64) { r.gin.Header("ETag", tagOf(revision)) }

func tagOf(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

func (r *request) hasIfMatch() bool { return len(r.gin.Request.Header.Values("If-Match")) > 0 }

// checkIfMatch refuses a change when the caller has named the state that it is
// meant for, in If-Match, and that is not the one at hand.
func (r *request) checkIfMatch(revision int64) error {
	if !r.hasIfMatch() {
		return nil
	}
	// Our tags hold no commas, so that none is within quotes.
	asked := strings.Join(r.gin.Request.Header.Values("If-Match"), ",")
	for tag := range strings.SplitSeq(asked, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == tagOf(revision) {
			return nil
		}
	}
	return errs.New(errs.Precondition, 0, "If-Match is %s and the ETag is %s now: somebody else has changed it, so read it again", shown(asked), tagOf(revision))
}
