package logpush

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var placeholders = []string{placeDate, placeHour, placeJob, placeScript, placeVersion}

// inBraces finds what looks like a placeholder, and braces without a partner.
var inBraces = regexp.MustCompile(`\{[^{}]*\}?|\}`)

// CheckPlaceholders refuses a destination with something in braces that Object.Key
// does not fill, or that stands elsewhere than in the path. It would stay as it is,
// and only be noticed when the folders fill up.
func CheckPlaceholders(u *url.URL) error {
	for _, found := range inBraces.FindAllString(u.Path, -1) {
		if !slices.Contains(placeholders, found) {
			return fmt.Errorf("the path has %s, which is not a placeholder: possible are %s", found, strings.Join(placeholders, ", "))
		}
	}
	for name, values := range u.Query() {
		if found := placeholderIn(append(values, name)...); found != "" {
			return fmt.Errorf("the placeholder %s can stand in the path only, not in the parameter %s", found, name)
		}
	}
	return nil
}

// CheckDateOnly is CheckPlaceholders for destinations that fill only {DATE}. Other
// braces stay as they are: what a receiver's path means is for it to say.
func CheckDateOnly(u *url.URL) error {
	for _, p := range placeholders {
		if p != placeDate && strings.Contains(u.Path, p) {
			return fmt.Errorf("the path has %s, which only buckets and folders fill: %s is possible", p, placeDate)
		}
	}
	return nil
}

func placeholderIn(texts ...string) string {
	for _, p := range placeholders {
		if strings.Contains(strings.Join(texts, " "), p) {
			return p
		}
	}
	return ""
}
