package logjob

import "tidegate/internal/errs"

// Codes of the v4 envelope, as Cloudflare's Logpush uses them.
const (
	codeBadValue   = 1002 // a setting has a bad value
	codeNotAllowed = 1004 // quota, licence, permission, or a filter that cannot be decoded
)

func badValue(pointer, format string, args ...any) error {
	return errs.New(errs.Invalid, codeBadValue, format, args...).At(pointer)
}

func notAllowed(pointer, format string, args ...any) error {
	return errs.New(errs.Forbidden, codeNotAllowed, format, args...).At(pointer)
}

// shown shortens a value for an error message.
func shown(value string) string {
	const most = 60
	if len(value) <= most {
		return value
	}
	return value[:most] + "..."
}
