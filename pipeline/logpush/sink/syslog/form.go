package syslog

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tidegate/pipeline/logpush"
)

// form writes messages of RFC 5424:
//
//	<PRI>1 TIMESTAMP HOSTNAME APP-NAME - MSGID [SD-ID ...] MSG
//
// with the script as APP-NAME, the type of the event as MSGID, and the record as MSG.
type form struct {
	facility int
	hostname string
	appName  string // instead of the script's, if not empty
	sdID     string
}

// Lengths of RFC 5424, section 6.
const (
	maxHostname = 255
	maxAppName  = 48
	maxMsgID    = 32
	maxSDName   = 32

	// maxHead is more than everything before the record can take: the parts above and
	// the values of the structured data, each at most maxValue.
	maxHead  = 1500
	maxValue = 128
)

var facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}

// Severities of RFC 5424, table 2.
const (
	severityError  = 3
	severityNotice = 5
	severityInfo   = 6
)

func newForm(query url.Values) (form, error) {
	f := form{
		hostname: orElse(query.Get("hostname"), "tidegate"), appName: query.Get("app-name"),
		// 32473 is the enterprise number for examples (RFC 5612): nobody has assigned us one.
		sdID: orElse(query.Get("sd-id"), "tidegate@32473"),
	}
	name := orElse(query.Get("facility"), "local0")
	f.facility = slices.Index(facilities, name)
	if f.facility < 0 {
		return form{}, fmt.Errorf("the parameter facility is %q: possible are %s", name, strings.Join(facilities, ", "))
	}
	for _, p := range []struct {
		name, value string
		most        int
	}{{"hostname", f.hostname, maxHostname}, {"app-name", f.appName, maxAppName}, {"sd-id", f.sdID, maxSDName}} {
		if len(p.value) > p.most || strings.ContainsFunc(p.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return form{}, fmt.Errorf("the parameter %s has more than %d characters, or other than printable ASCII", p.name, p.most)
		}
	}
	if strings.ContainsAny(f.sdID, `="]`) || !strings.Contains(f.sdID, "@") {
		return form{}, fmt.Errorf("the parameter sd-id is %q: write name@<enterprise number>", f.sdID)
	}
	return f, nil
}

// append appends the message of an object's item.
func (f *form) append(b []byte, o *logpush.Object, i int) []byte {
	item := &o.Items[i]
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(f.facility*8+severityOf(item.Outcome)), 10)
	b = append(b, ">1 "...)
	b = item.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(append(b, ' '), f.hostname...)
	b = appendName(append(b, ' '), orElse(f.appName, item.Script), maxAppName)
	b = append(b, " - "...)
	b = appendName(b, item.EventType, maxMsgID)
	b = append(append(b, " ["...), f.sdID...)
	b = appendParam(b, "batch", o.BatchID)
	b = appendParam(b, "record", strconv.Itoa(i))
	b = appendParam(b, "version", item.Version)
	b = appendParam(b, "outcome", item.Outcome)
	b = append(b, "] "...)
	return append(b, bytes.TrimSuffix(item.Text, []byte("\n"))...)
}

// severityOf an outcome of the runtime. Who leaves early has not failed.
func severityOf(outcome string) int {
	switch outcome {
	case "ok", "":
		return severityInfo
	case "canceled":
		return severityNotice
	}
	return severityError
}

// appendName appends one word of the header, "-" for none.
func appendName(b []byte, name string, most int) []byte {
	start := len(b)
	for _, r := range name {
		if len(b)-start == most {
			break
		}
		if r <= ' ' || r > '~' {
			r = '_'
		}
		b = append(b, byte(r))
	}
	if len(b) == start {
		b = append(b, '-')
	}
	return b
}

// appendParam appends a parameter of the structured data, if it is known.
func appendParam(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ' '), name...), `="`...)
	if len(value) > maxValue {
		value = strings.ToValidUTF8(value[:maxValue], "")
	}
	for _, c := range []byte(value) {
		if c == '"' || c == '\\' || c == ']' { // RFC 5424, 6.3.3
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}
