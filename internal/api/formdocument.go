package api

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tidegate/internal/errs"
)

// documentDepthMax is deeper than any member of a description lies.
const documentDepthMax = 16

// documentOf builds the describing document of a form from parts of their own for
// each of its members, such as metadata.bindings.0.name: the form of Cloudflare's
// SDK for Go. A text is all that such a part has, so the few members that are no
// text are known by their names.
func documentOf(members map[string]string) ([]byte, error) {
	root := make(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(members)) {
		segments := strings.Split(path, ".")
		if len(segments) > documentDepthMax || !utf8.ValidString(path) || !utf8.ValidString(members[path]) {
			return nil, errs.New(errs.Invalid, 0, "the part %q is too deep, or not UTF-8", shown(path))
		}
		if !setMember(root, segments, leafOf(path, members[path])) {
			return nil, errs.New(errs.Invalid, 0, "the part %q does not fit the parts beside it", shown(path))
		}
	}
	return json.Marshal(listsOf(root))
}

func leafOf(path, text string) any {
	switch path[strings.LastIndexByte(path, '.')+1:] {
	case "enabled", "logpush", "keep_assets", "invocation_logs", "persist":
		return text == "true"
	case "cpu_ms", "subrequests", "head_sampling_rate", "max_delay":
		if number, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(number) && !math.IsInf(number, 0) {
			return number
		}
	case "json":
		if json.Valid([]byte(text)) {
			return json.RawMessage(text)
		}
	}
	return text
}

// setMember reports false when the path goes through a value that is no object.
func setMember(at map[string]any, path []string, leaf any) bool {
	key := path[0]
	if len(path) == 1 {
		_, taken := at[key]
		at[key] = leaf
		return !taken
	}
	inner, found := at[key]
	if !found {
		inner = make(map[string]any)
		at[key] = inner
	}
	object, ok := inner.(map[string]any)
	return ok && setMember(object, path[1:], leaf)
}

// listsOf turns objects whose members are 0, 1, 2, ... into lists.
func listsOf(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	list := make([]any, len(object))
	isList := len(object) > 0
	for key, member := range object {
		member = listsOf(member)
		object[key] = member
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i >= len(list) || strconv.Itoa(i) != key {
			isList = false
			continue
		}
		list[i] = member
	}
	if isList {
		return list
	}
	return object
}
