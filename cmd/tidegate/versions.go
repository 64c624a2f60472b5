package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func versionsUpload(c *connection) *cobra.Command {
	var urls []string
	var file string
	var said deploy.Annotations
	command := &cobra.Command{
		Use: "upload SCRIPT --origin URL", Short: "Make a version of a script; it serves once it is deployed",
		Long: "Make a version of a script; it serves once it is deployed. A version is one server, or several that serve the\n" +
			"same, between which the gateway balances. Weights, a monitor, time-outs and bounds are in a file of JSON.",
		Example: "  tidegate versions upload shop --origin http://127.0.0.1:9000 --tag v1 --message 'First release'\n" +
			"  tidegate versions upload shop --origin http://10.0.0.5:9000 --origin http://10.0.0.6:9000\n" +
			"  tidegate versions upload shop --origin-file origin.json",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			script := args[0]
			if file == "" {
				if err := required(cmd, "origin"); err != nil {
					return err
				}
			} else if len(urls) > 0 {
				return usage(cmd, errors.New("--origin and --origin-file exclude each other: a file names its servers itself"))
			}
			origin, err := originJSON(cmd.InOrStdin(), file, urls)
			if err != nil {
				return fmt.Errorf("upload a version of %s: %w", script, err)
			}
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			made, err := s.api.UploadOrigin(cmd.Context(), s.account, script, origin, said)
			if err != nil {
				return s.explain("upload a version of "+script, err)
			}
			if err := s.show(func(out io.Writer) {
				fmt.Fprintf(out, "Uploaded version %d of %s: %s\n", made.Number, script, made.ID)
			}); err != nil {
				return err
			}
			return s.noteSharedTag(cmd, script, said.Tag)
		},
	}
	flags := command.Flags()
	flags.StringArrayVar(&urls, "origin", nil, "`URL` of a server that answers this version's requests; may be repeated")
	flags.StringVar(&file, "origin-file", "", "JSON of the whole origin, as the API has it; - reads standard input")
	flags.StringVar(&said.Tag, "tag", "", "short name, to be used instead of the id")
	flags.StringVar(&said.Alias, "alias", "", "name of a host at which this version can always be reached")
	flags.StringVarP(&said.Message, "message", "m", "", "what the version is about")
	return command
}

// noteSharedTag says that a tag names no version any more, because several have it.
func (s *session) noteSharedTag(cmd *cobra.Command, script, tag string) error {
	if tag == "" {
		return nil
	}
	versions, _ := s.api.DeployableVersions(cmd.Context(), s.account, script) // the upload is done, and no failure if they cannot be listed
	var ids []string
	for _, v := range versions {
		if v.Annotations.Tag == tag {
			ids = append(ids, short(v.ID))
		}
	}
	if len(ids) < 2 {
		return nil
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "The tag %s is that of %d versions now, and no command takes it: name a version by its id, %s.\n", oneLine(tag), len(ids), strings.Join(ids, " or "))
	return err
}

// originBytesMax bounds a file of an origin; 64 endpoints are a fraction of it.
const originBytesMax = 1 << 20

// originJSON is the origin as the API has it: the content of the file, or the servers.
// What is in a file is for the API to judge, as it is complete only there.
func originJSON(stdin io.Reader, file string, urls []string) (json.RawMessage, error) {
	if file == "" {
		var o deploy.Origin
		if len(urls) == 1 {
			o.URL = urls[0]
		} else {
			for _, u := range urls {
				o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: u, Weight: 1})
			}
		}
		return json.Marshal(o)
	}
	text, err := readAll(stdin, file, originBytesMax)
	if err != nil {
		return nil, err
	}
	var origin map[string]json.RawMessage
	if err := json.Unmarshal(text, &origin); err != nil || origin == nil {
		return nil, fmt.Errorf("read %s: it must be one JSON object, such as {\"endpoints\": [{\"url\": \"http://10.0.0.5:9000\"}]}", file)
	}
	return text, nil
}

func versionsList(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "list SCRIPT", Short: "List the versions that may be deployed, newest first",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			versions, err := s.api.DeployableVersions(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("list the versions of "+args[0], err)
			}
			return s.show(func(out io.Writer) {
				rows := make([][]string, len(versions))
				for i, v := range versions {
					rows[i] = []string{
						strconv.FormatInt(v.Number, 10), v.ID, v.Annotations.Tag, moment(v.CreatedOn), origin(v),
						cut(v.Annotations.Message),
					}
				}
				s.table(out, []string{"NUMBER", "ID", "TAG", "CREATED", "ORIGIN", "MESSAGE"}, rows)
			})
		},
	}
}

// origin is empty for a version of another kind.
func origin(v deploy.Version) string {
	if v.Origin == nil {
		return ""
	}
	return v.Origin.String()
}

func versionsView(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "view SCRIPT VERSION", Short: "Show one version, named by its id, the beginning of that, or its tag",
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			attempted := fmt.Sprintf("view version %q of %s", args[1], args[0])
			versions, err := s.api.DeployableVersions(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain(attempted, err)
			}
			id, err := resolve(versions, args[1])
			if err != nil {
				return fmt.Errorf("%s: %w", attempted, err)
			}
			v, err := s.api.Version(cmd.Context(), s.account, args[0], id)
			if err != nil {
				return s.explain(attempted, err)
			}
			return s.show(func(out io.Writer) {
				properties(out, [][]string{
					{"ID", v.ID}, {"Number", strconv.FormatInt(v.Number, 10)}, {"Tag", v.Annotations.Tag},
					{"Alias", v.Annotations.Alias}, {"Message", v.Annotations.Message}, {"Origin", origin(v)},
					{"Created", moment(v.CreatedOn)}, {"Author", v.AuthorEmail}, {"Source", v.Source},
				})
			})
		},
	}
}

func versionsDeploy(c *connection) *cobra.Command {
	var message string
	var yes bool
	command := &cobra.Command{
		Use: "deploy SCRIPT [VERSION[@PERCENTAGE]]...", Short: "Divide the traffic of a script between versions",
		Long: "Divide the traffic of a script between versions. A version is named by its id, by eight or more hex digits\n" +
			"with which that begins, or by its tag. Versions without a percentage divide the rest equally. Without\n" +
			"versions, a terminal asks for them.",
		Example: "  tidegate versions deploy shop v1@90 v2@10 -y -m 'Try v2'",
		Args:    arguments(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			script := args[0]
			specs, err := parseSpecs(args[1:])
			if err != nil {
				return usage(cmd, err)
			}
			person := newPrompt()
			asking := len(specs) == 0
			if asking && (yes || !person.there()) {
				return usage(cmd, fmt.Errorf("name the versions, such as \"%s %s <version>@90 <version>@10\": without them a person on a terminal is asked, and there is none or --yes was given",
					cmd.CommandPath(), script))
			}
			var splits []deploy.Split
			if !asking {
				if splits, err = divide(specs); err != nil {
					return usage(cmd, err)
				}
			}
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			versions, deployments, err := s.history(cmd, script)
			if err != nil {
				return s.explain("deploy "+script, err)
			}
			if asking {
				splits, err = person.splits(cmd.Context(), script, versions, deployments, &message)
			} else {
				err = resolveAll(versions, splits)
			}
			if err == nil && !yes && person.there() {
				err = person.confirm(cmd.Context(), fmt.Sprintf("Deploy %s as %s?", script, splitText(splits, versions)))
			}
			if err != nil {
				return fmt.Errorf("deploy %s: %w", script, err)
			}
			return s.deploy(cmd, script, splits, versions, message)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&message, "message", "m", "", "why")
	flags.BoolVarP(&yes, "yes", "y", false, "ask nothing")
	return command
}

func parseSpecs(texts []string) ([]spec, error) {
	specs := make([]spec, len(texts))
	for i, text := range texts {
		var err error
		if specs[i], err = parseSpec(text); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

// deploy makes the deployment and says so; versions give its tags.
func (s *session) deploy(cmd *cobra.Command, script string, splits []deploy.Split, versions []deploy.Version, message string) error {
	made, err := s.api.Deploy(cmd.Context(), s.account, script, splits, message)
	if err != nil {
		return s.explain("deploy "+script, err)
	}
	return s.show(func(out io.Writer) {
		fmt.Fprintf(out, "Deployed %s as %s\nDeployment %s\n", script, splitText(made.Versions, versions), made.ID)
	})
}
