package embedded

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Codes of the ClickHouse exceptions that this package raises itself, by the names that ClickHouse gives them.
const (
	codeBadArguments         = 36
	codeNotImplemented       = 48
	codeSyntaxError          = 62
	codeTooManyQueries       = 202
	codeNotEnoughSpace       = 243
	codeAuthenticationFailed = 516
	codeUnknownException     = 1002
)

// statusByCode is the HTTP status of an exception as a ClickHouse server answers it (exceptionCodeToHTTPStatus
// in its source); every other code is a 500.
var statusByCode = map[int][]int{
	http.StatusBadRequest: {
		6, 25, 26, 27, 38, 41, 72, 376, 441, 675, 676, // cannot parse
		8, 15, 36, 37, 44, 53, 62, 117, 123, 167, 168, 223, 321, 427,
	},
	http.StatusUnauthorized: {194},
	http.StatusForbidden:    {192, 193, 497, 512, 516},
	http.StatusNotFound: {
		46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511, // unknown
	},
	http.StatusRequestTimeout:        {159},
	http.StatusLengthRequired:        {381},
	http.StatusRequestEntityTooLarge: {229},
	http.StatusNotImplemented:        {48},
	http.StatusServiceUnavailable:    {76, 209, 439},
}

// exception is an error of a query as ClickHouse reports it: Text begins with "Code: N. DB::Exception: ".
type exception struct {
	Code int
	Text string
}

func (e *exception) Error() string { return e.Text }

// status is the HTTP status of an answer that consists of the exception.
func (e *exception) status() int {
	for status, codes := range statusByCode {
		if slices.Contains(codes, e.Code) {
			return status
		}
	}
	return http.StatusInternalServerError
}

func newException(code int, name, format string, args ...any) *exception {
	return &exception{code, fmt.Sprintf("Code: %d. DB::Exception: %s (%s)", code, fmt.Sprintf(format, args...), name)}
}

var exceptionCode = regexp.MustCompile(`^Code: (\d+)\. `)

// engineException gives the engine's message its code. The library's own complaints come without one.
func engineException(text string) *exception {
	text = strings.TrimSpace(text)
	if m := exceptionCode.FindStringSubmatch(text); m != nil {
		if code, err := strconv.Atoi(m[1]); err == nil {
			return &exception{code, text}
		}
	}
	return newException(codeUnknownException, "UNKNOWN_EXCEPTION", "%s", text)
}

// asException reports any error in ClickHouse's form.
func asException(err error) *exception {
	if ex, ok := errors.AsType[*exception](err); ok {
		return ex
	}
	return newException(codeUnknownException, "UNKNOWN_EXCEPTION", "%s", err)
}
