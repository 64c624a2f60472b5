package notify

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"

	"tidegate/internal/deploy"
)

// Limits of Slack's blocks, in characters (api.slack.com/reference/block-kit/blocks).
const (
	slackHeaderMax = 150
	slackTextMax   = 3000
	slackFieldMax  = 2000
	slackFieldsMax = 10
	slackOtherMax  = 40_000 // of the text beside the blocks, past which Slack cuts it
)

// slackBody has blocks for Slack, and the whole message as text for notifications on
// phones and for servers that know no blocks, such as Mattermost's.
type slackBody struct {
	Text   string       `json:"text"`
	Blocks []slackBlock `json:"blocks"`
}

type slackBlock struct {
	Type   string      `json:"type"`
	Text   *slackText  `json:"text,omitempty"`
	Fields []slackText `json:"fields,omitempty"`
}

type slackText struct {
	Type string `json:"type"` // plain_text or mrkdwn
	Text string `json:"text"`
}

// slackEscape takes its meaning from the three characters that control Slack's texts:
// <!channel> is a cry to everybody.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slack(ctx context.Context, n deploy.Notification, m message) (*http.Request, error) {
	body, err := json.Marshal(slackMessage(m))
	if err != nil {
		return nil, err
	}
	return jsonRequest(ctx, n, n.Target.URL, body)
}

func slackMessage(m message) slackBody {
	text := slackEscaped(m.title+": "+m.sentence, slackOtherMax)
	blocks := []slackBlock{
		{Type: "header", Text: &slackText{"plain_text", slackEscaped(m.title, slackHeaderMax)}},
		{Type: "section", Text: &slackText{"mrkdwn", slackEscaped(m.sentence, slackTextMax)}},
	}
	fields := slackBlock{Type: "section"}
	for _, f := range m.facts {
		if len(fields.Fields) < slackFieldsMax {
			fields.Fields = append(fields.Fields, slackText{"mrkdwn", "*" + slackEscaped(f.name, slackFieldMax/2) + "*\n" + slackEscaped(f.value, slackFieldMax/2)})
		}
	}
	blocks = append(blocks, fields)
	if m.console != "" {
		link := "<" + slackEscaped(m.console, slackTextMax/2) + "|Open Tidegate>"
		text += " " + link
		blocks = append(blocks, slackBlock{Type: "section", Text: &slackText{"mrkdwn", link}})
	}
	return slackBody{Text: text, Blocks: blocks}
}

// slackEscaped returns s with nothing left that Slack reads as more than text, in at
// most limit characters and whole ones.
func slackEscaped(s string, limit int) string {
	var b strings.Builder
	used := 0
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		one := slackEscape.Replace(string(r))
		if used += utf8.RuneCountInString(one); used > limit {
			break
		}
		b.WriteString(one)
	}
	return b.String()
}
