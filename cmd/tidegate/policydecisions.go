package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
)

// scriptDecision is a decision in a list of several scripts.
type scriptDecision struct {
	Script string `json:"script"`
	deploy.RollbackDecision
}

func policyDecisions(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "decisions [SCRIPT]", Short: "Show the newest decisions about a script, or about all of the account", Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			list, err := s.decisions(cmd, args)
			if err != nil {
				return err
			}
			return s.show(func(out io.Writer) {
				versions := map[string][]deploy.Version{}
				for _, d := range list {
					if _, known := versions[d.Script]; !known {
						versions[d.Script] = s.versions(cmd, d.Script)
					}
				}
				s.writeDecisions(out, list, versions)
			})
		},
	}
}

// decisions lists those about a script, or about all scripts if none is named, newest
// first. It is what --json prints.
func (s *session) decisions(cmd *cobra.Command, scripts []string) ([]scriptDecision, error) {
	if len(scripts) == 0 {
		all, err := s.api.Scripts(cmd.Context(), s.account)
		if err != nil {
			return nil, s.explain("list the scripts of the account", err)
		}
		for _, script := range all {
			scripts = append(scripts, script.Name)
		}
	}
	list := []scriptDecision{}
	for _, script := range scripts {
		some, err := s.api.Decisions(cmd.Context(), s.account, script)
		if err != nil {
			return nil, s.explain("list the decisions about "+script, err)
		}
		for _, d := range some {
			list = append(list, scriptDecision{script, d})
		}
	}
	slices.SortStableFunc(list, func(a, b scriptDecision) int { return b.At.Compare(a.At) })
	var err error
	s.answers.result, err = json.Marshal(list)
	return list, err
}

// versions of a script, for their tags. Without them a decision is no less of one, so it is no
// failure if they cannot be listed.
func (s *session) versions(cmd *cobra.Command, script string) []deploy.Version {
	versions, _ := s.api.DeployableVersions(cmd.Context(), s.account, script)
	return versions
}

// idStart is how sentences name a version, and with the dash the beginning of any whole id.
var idStart = regexp.MustCompile(`\b[0-9a-f]{8}\b-?`)

// tagged is a sentence in which versions have their tags beside the digits of their ids.
func tagged(sentence string, versions []deploy.Version) string {
	return idStart.ReplaceAllStringFunc(oneLine(sentence), func(id string) string {
		if i := slices.IndexFunc(versions, func(v deploy.Version) bool { return short(v.ID) == id }); i >= 0 {
			return versionName(versions, versions[i].ID)
		}
		return id
	})
}

// writeDecisions takes the versions by script.
func (s *session) writeDecisions(out io.Writer, list []scriptDecision, versions map[string][]deploy.Version) {
	rows := make([][]string, len(list))
	for i, d := range list {
		rows[i] = []string{short(d.ID), moment(d.At), d.Script, string(d.Verdict), cmp.Or(string(d.Action), "-"), tagged(d.Sentence, versions[d.Script])}
	}
	s.table(out, []string{"ID", "WHEN", "SCRIPT", "VERDICT", "ACTION", "WHY"}, rows)
}

func policyDecision(c *connection) *cobra.Command {
	var script string
	command := &cobra.Command{
		Use: "decision ID", Short: "Explain one decision: its numbers, and how the evidence grew", Args: arguments(1, 1),
		Long: "The id may be shortened to its first eight digits or more. Without --script all scripts of the account are searched.",
	}
	command.Flags().StringVar(&script, "script", "", "the script that it is about")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		var scripts []string
		if script != "" {
			scripts = []string{script}
		}
		list, err := s.decisions(cmd, scripts)
		if err != nil {
			return err
		}
		found, err := findDecision(list, args[0])
		if err != nil {
			return err
		}
		d, err := s.api.Decision(cmd.Context(), s.account, found.Script, found.ID)
		if err != nil {
			return s.explain("read the decision "+found.ID, err)
		}
		return s.show(func(out io.Writer) { s.writeDecision(out, found.Script, d, s.versions(cmd, found.Script)) })
	}
	return command
}

// findDecision takes the beginning of an id, if it is that of one decision only.
func findDecision(list []scriptDecision, id string) (scriptDecision, error) {
	var found []scriptDecision
	for _, d := range list {
		if d.ID == id || len(id) >= shortID && strings.HasPrefix(d.ID, id) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return scriptDecision{}, fmt.Errorf("no decision among the newest ones has the id %q: \"tidegate policy decisions\" lists them", id)
	case 1:
		return found[0], nil
	}
	return scriptDecision{}, fmt.Errorf("the ids of %d decisions begin with %q: give more of it", len(found), id)
}

// writeDecision leaves out what is not known.
func (s *session) writeDecision(out io.Writer, script string, d client.Decision, versions []deploy.Version) {
	fmt.Fprintf(out, "%s\n\n", tagged(d.Sentence, versions))
	policy := ""
	if d.PolicyRevision > 0 {
		policy = fmt.Sprintf("%s, revision %d", whosePolicy(d.PolicySource), d.PolicyRevision)
	}
	properties(out, [][]string{
		{"Decision", d.ID}, {"Script", script}, {"At", moment(d.At)}, {"Verdict", string(d.Verdict)}, {"Action", string(d.Action)},
		{"Decided by", string(d.Metric)}, {"Policy", policy}, {"From", d.FromDeployment}, {"To", d.ToDeployment},
	})
	n := d.Numbers
	var rows [][]string
	if n.Requests != nil {
		rows = append(rows, []string{"new", versionName(versions, d.VersionID), countOf(n.Requests), countOf(n.Failures), rate(n.FailureRate)})
	}
	if n.BaselineRequests != nil {
		rows = append(rows, []string{"baseline", versionName(versions, d.BaselineVersionID), countOf(n.BaselineRequests), countOf(n.BaselineFailures), rate(n.BaselineRate)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(out)
		s.table(out, []string{"", "VERSION", "REQUESTS", "FAILURES", "RATE"}, rows)
	}
	s.writeEvidence(out, d.Evidence)
	if d.Links.Exceptions != "" {
		fmt.Fprintln(out)
		properties(out, [][]string{{"Exceptions", d.Links.Exceptions}, {"Events", d.Links.Events}, {"Metrics", d.Links.Metrics}})
	}
}

// writeEvidence writes what each test said, and draws the way of the first one that has
// any: that of the limit which decided.
func (s *session) writeEvidence(out io.Writer, list []deploy.Evidence, moments ...chartMoment) {
	if len(list) == 0 {
		return
	}
	rows := make([][]string, len(list))
	for i, e := range list {
		rows[i] = []string{string(e.Metric), formatNumber(e.Limit), count(e.Events) + " of " + count(e.Trials),
			strconv.FormatFloat(e.Expected, 'f', 1, 64), between(e.Low, e.High), chance(e.PValue), strength(e)}
	}
	fmt.Fprintln(out)
	s.table(out, []string{"LIMIT", "VALUE", "SEEN", "EXPECTED", "BETWEEN", "CHANCE", "EVIDENCE"}, rows)
	for _, e := range list {
		if len(e.Series) < 2 {
			continue
		}
		fmt.Fprintf(out, "\nEvidence against %s; at 100%% it is enough\n", e.Metric)
		for _, line := range slices.Concat(chart(e.Series, e.Threshold), chartMoments(e.Series, moments)) {
			fmt.Fprintln(out, line)
		}
		return
	}
}

// between are the ends between which lies what is limited, as far as they are known. What has
// changed in the trial may have been above one end and below the other.
func between(low, high *float64) string {
	switch {
	case low != nil && high != nil && *low > *high:
		return "at least " + outwards(*low, math.Floor) + " and at most " + outwards(*high, math.Ceil) + " in turn"
	case low != nil && high != nil:
		return outwards(*low, math.Floor) + " and " + outwards(*high, math.Ceil)
	case low != nil:
		return "at least " + outwards(*low, math.Floor)
	case high != nil:
		return "at most " + outwards(*high, math.Ceil)
	}
	return ""
}

// outwards writes two digits, rounded so that nothing is said which was not shown. What is
// two digits but for the error of a float stays as it is.
func outwards(f float64, round func(float64) float64) string {
	if !(f > 0) || math.IsInf(f, 1) {
		return formatNumber(f)
	}
	before := int(math.Floor(math.Log10(f))) + 1 // digits before the point, or less than none
	digits := math.Round(f*math.Pow10(2-before)*1e6) / 1e6
	return strconv.FormatFloat(round(digits)*math.Pow10(before-2), 'f', max(0, 2-before), 64)
}

func countOf(n *int64) string {
	if n == nil {
		return ""
	}
	return count(*n)
}

// chance says a probability as people do: "1 in 4,000". It is rounded so that none looks smaller than
// it is, to the digits that the dashboard shows.
func chance(p float64) string {
	switch {
	case p >= 0.1:
		return strconv.FormatFloat(math.Ceil(nineDigits(100*p)), 'f', 0, 64) + "%"
	case !(p >= 1e-9):
		return "below 1 in 1,000,000,000"
	}
	odds := nineDigits(1 / p)
	digit := math.Pow10(max(int(math.Floor(math.Log10(odds)))-2, 0)) // three are shown
	text := strconv.FormatFloat(math.Floor(odds/digit)*digit, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return "1 in " + text
}

// nineDigits is a number without the error of a float: 1/0.001 is 999.9999999999999.
func nineDigits(f float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 9, 64), 64)
	return rounded
}

// strength is how far the evidence is on its way to the threshold, at least 0%.
func strength(e deploy.Evidence) string {
	if !(e.Threshold > 0) {
		return ""
	}
	return strconv.FormatFloat(max(e.LogE/e.Threshold, 0)*100, 'f', 0, 64) + "%"
}
