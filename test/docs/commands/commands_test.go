package commands

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandsOfScripts(t *testing.T) {
	for _, c := range []struct {
		script string
		want   []string // the words of each, with | between
	}{
		{"tidegate token list   # with their last use\n", []string{"tidegate|token|list"}},
		{"tidegate token create \\\n  --name edge | sed -n 's/^Token *//p' >/etc/token", []string{"tidegate|token|create|--name|edge", "sed|-n|s/^Token *//p"}},
		{`TIDEGATE_TOKEN=x FOO="a b" tidegate up`, []string{"tidegate|up"}},
		{`job=$(tidegate jobs list --json | grep -o '"id"')`, []string{"tidegate|jobs|list|--json", `grep|-o|"id"`}},
		{`tidegate jobs view "$(tidegate jobs list)" "a\"b"`, []string{"tidegate|jobs|list", `tidegate|jobs|view|$(tidegate jobs list)|a"b`}},
		{"until tidegate events view \"$ray\" > request.txt 2> /dev/null; do sleep 0.5; done", []string{"tidegate|events|view|$ray", "sleep|0.5", "done"}},
		{"cat > a.json <<'EOF'\ntidegate nothing\nEOF\ntidegate verify", []string{"cat", "tidegate|verify"}},
		{"tr a b <<END | tidegate verify\nit's a text\nEND\ntidegate doctor", []string{"tr|a|b", "tidegate|verify", "tidegate|doctor"}},
		{"kubectl -n tidegate exec deploy/tidegate-jobs-api -- tidegate token list", []string{"tidegate|token|list"}},
		{"kubectl exec -i pod -- sh -c 'TIDEGATE_TOKEN=$(cat) exec tidegate token list' <admin-token", []string{"cat", "tidegate|token|list"}},
		{"kubectl -n tidegate get pods", []string{"kubectl|-n|tidegate|get|pods"}},
		{"docker compose -f a.yml exec -u tidegate jobs-api-1 tidegate doctor", []string{"tidegate|doctor"}},
		{"docker compose up --build", []string{"docker|compose|up|--build"}},
		{"sudo -u tidegate env A=b tidegate doctor", []string{"tidegate|doctor"}},
		{"systemd-run --unit once -p User=tidegate /usr/local/bin/tidegate verify", []string{"/usr/local/bin/tidegate|verify"}},
		{"(cd dist && make release) & router --take-over", []string{"cd|dist", "make|release", "router|--take-over"}},
		{"diff <(tidegate verify) b >&2", []string{"tidegate|verify", "diff|<(...)|b"}},
		{"for role in ingest router; do\n  install $role\ndone", []string{"for|role|in|ingest|router", "install|$role", "done"}},
		{"it's gone)\ntidegate doctor", []string{"it's|gone", "tidegate|doctor"}},
	} {
		var got []string
		for _, command := range parse(c.script, 1) {
			got = append(got, strings.Join(command.Words, "|"))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s\n(-want +got)\n%s", c.script, diff)
		}
	}
}

func TestCommandsOfPages(t *testing.T) {
	page := strings.ReplaceAll(`# Page
Say 'tidegate doctor', or 'tidegate backup - \| age
-r KEY'. A ' is left.

'''sh
V=1 bin/tidegate up \
  --data-dir x

tidegate verify
'''

'''json
tidegate nothing
'''

Then 'make up'.

'''
$ tidegate policy list
tidegate is no command here
'''
`, "'", "`")
	var got []string
	for _, c := range In(page) {
		got = append(got, fmt.Sprintf("%d %t %s: %s", c.Line, c.Inline, c.Program(), strings.Join(c.Words[1:], " ")))
	}
	if diff := cmp.Diff([]string{
		"6 false tidegate: up --data-dir x", "9 false tidegate: verify", "19 false tidegate: policy list",
		"2 true tidegate: doctor", "2 true tidegate: backup -", "2 true age: -r KEY", "16 true make: up",
	}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
