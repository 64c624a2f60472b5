package schema

import "strings"

// Member is a part of a field that a filter can name, which Logpush cannot.
type Member struct {
	// Path is the key: the field, then members after dots; [] stands behind the lists
	// whose elements are looked at. It may end in <name>, for any one name, or in
	// <path>, for any names with dots between them.
	Path string
	Type FieldType
}

// Members lists them by field. Cloudflare's dataset spells the members of
// ScriptVersion with capitals and Tidegate's events have small letters: both work.
var Members = []Member{
	{"Event.RayID", TypeString},
	{"Event.Request.URL", TypeString},
	{"Event.Request.Method", TypeString},
	{"Event.Request.Headers.<name>", TypeString},
	{"Event.Request.CF.<path>", TypeString},
	{"Event.Response.Status", TypeInt},
	{"Event.Cron", TypeString},
	{"Event.ScheduledTimeMs", TypeInt},
	{"Event.ScriptName", TypeString},
	{"Event.Queue", TypeString},
	{"Event.BatchSize", TypeInt},
	{"Event.MailFrom", TypeString},
	{"Event.RcptTo", TypeString},
	{"Event.RawSize", TypeInt},
	{"Event.rpcMethod", TypeString},
	{"Exceptions[].Name", TypeString},
	{"Exceptions[].Message", TypeString},
	{"Exceptions[].Stack", TypeString},
	{"Exceptions[].TimestampMs", TypeInt},
	{"Gateway.Decision", TypeString},
	{"Gateway.RayID", TypeString},
	{"Gateway.AffinityRule", TypeInt},
	{"Gateway.CallerScript", TypeString},
	{"Gateway.CallerVersionID", TypeString},
	{"Gateway.SampledOut", TypeInt},
	{"Logs[].Level", TypeString},
	{"Logs[].Message", TypeString}, // the elements of Message are looked at, too
	{"Logs[].TimestampMs", TypeInt},
	{"ScriptVersion.id", TypeString},
	{"ScriptVersion.ID", TypeString},
	{"ScriptVersion.message", TypeString},
	{"ScriptVersion.Message", TypeString},
	{"ScriptVersion.tag", TypeString},
	{"ScriptVersion.Tag", TypeString},
}

// MemberAt finds the member that a filter's key names: its type, its field, and
// the names below it as they are spelled in an event. Names of headers have small
// letters there.
func MemberAt(key string) (kind FieldType, field string, names []string, ok bool) {
	for _, m := range Members {
		base, open := strings.CutSuffix(m.Path, "<name>")
		if open && strings.HasPrefix(key, base) && len(key) > len(base) {
			names = append(split(strings.TrimSuffix(base, ".")), strings.ToLower(key[len(base):]))
			return m.Type, names[0], names[1:], true
		}
		base, open = strings.CutSuffix(m.Path, "<path>")
		if open && strings.HasPrefix(key, base) || m.Path == key {
			names = split(key)
			if names[0] == "ScriptVersion" {
				names[1] = strings.ToLower(names[1])
			}
			for _, name := range names {
				if name == "" {
					return "", "", nil, false
				}
			}
			return m.Type, names[0], names[1:], true
		}
	}
	return "", "", nil, false
}

func split(path string) []string {
	return strings.Split(strings.ReplaceAll(path, "[]", ""), ".")
}
