package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
	"tidegate/internal/embedded"
)

func doctorCommand() *cobra.Command {
	var c connection
	command := &cobra.Command{
		Use: "doctor", Short: "Look for common faults, and say what to do about each",
		Long: "Look at this machine, and at every service that is named or that a \"tidegate up\" in --data-dir runs, and say what is wrong and what to\n" +
			"do. Nothing is changed. It takes the flags of the processes, and their files with --config; --roles says which of them run here.\n" +
			"Exit status: 0 no fault (there may be warnings), 1 a fault.",
		Example: "  tidegate doctor\n  tidegate doctor --config /etc/tidegate/router.yaml --roles gateway --json\n" +
			"  tidegate doctor --kafka kafka-1:9092 --clickhouse http://clickhouse:8123 --database postgres://tidegate@postgres/tidegate --api https://tidegate.internal",
		Args: arguments(0, 0),
	}
	flags := command.Flags()
	config, local := upSettings(flags)
	flags.StringVar(&c.api, "api", "", "address of the API (default: that of the platform in --data-dir, or --api-url)")
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the operator's API token; the variable TIDEGATE_TOKEN holds a token itself")
	flags.BoolVar(&c.json, "json", false, "print the findings as JSON")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		given := flags.Changed("token-file")
		if err := app.ReadSettings(flags); err != nil {
			return usage(cmd, err)
		}
		doctor, err := doctorConfig(*config, *local, &c, given)
		if err != nil {
			return err
		}
		doctor.Flags = flags
		return showFindings(cmd.OutOrStdout(), app.Doctor(cmd.Context(), doctor), c.json)
	}
	return command
}

// doctorConfig fills in what a platform that runs in the data folder has told. A file that it
// cannot read is a finding, and keeps nothing else from being looked at.
func doctorConfig(config app.Config, local services, c *connection, tokenFileGiven bool) (app.DoctorConfig, error) {
	ready, unread := readReady(config.DataDir)
	if held, _ := app.Runs(config.DataDir); !held { // one that was killed: nobody answers at the addresses that it told, or a stranger does
		ready = app.Ready{Database: ready.Database}
	}
	embeds := len(config.Roles) == len(app.AllRoles) && config.Gateway.APIURL == ""
	doctor := app.DoctorConfig{Config: config, Embedded: embeds, API: cmp.Or(c.api, ready.API, config.Gateway.APIURL)}
	if ready.API != doctor.API {
		ready.TokenFile = cmp.Or(config.Gateway.APITokenFile, config.API.AdminTokenFile) // another platform's token must not be sent there
	}
	add := func(check string, err error, advice string) {
		if err != nil {
			doctor.More = append(doctor.More, func() app.Finding {
				return app.Finding{Check: check, State: app.JudgedFault, Sentence: err.Error() + ".", Advice: advice}
			})
		}
	}
	add("ready file", unread, "Run this as the user of the platform, or name its services: --api, --kafka, --clickhouse, --database.")
	token, _, err := c.token(tokenFileGiven, ready)
	doctor.Token = token
	add("token file", err, "Correct --token-file, or let this user read the file.")
	ownEngine := embeds && config.ClickHouse == ""
	if len(doctor.Kafka) == 0 && ready.Kafka != "" {
		doctor.Kafka = []string{ready.Kafka}
	}
	doctor.ClickHouse = cmp.Or(doctor.ClickHouse, ready.ClickHouse)
	if doctor.Database == "" && embeds {
		own, err := filepath.Abs(defaultDatabase(config.DataDir))
		if err != nil {
			return doctor, err
		}
		if doctor.Database = cmp.Or(ready.Database, own); doctor.Database == own {
			doctor.NameKeyFile() // as it has its own
		}
	}
	if ownEngine {
		doctor.More = append(doctor.More, func() app.Finding { return libraryFinding(local.library) }, sandboxFinding)
	}
	return doctor, nil
}

func libraryFinding(path string) app.Finding {
	const check = "clickhouse engine"
	if path == "" {
		found, err := embedded.FindLibrary()
		if err != nil {
			return app.Finding{Check: check, State: app.JudgedFault, Sentence: err.Error() + ".", Advice: "Run \"make deps\", name libchdb.so in --chdb-library, or a server in --clickhouse."}
		}
		path = found
	}
	if _, err := os.Stat(path); err != nil {
		return app.Finding{Check: check, State: app.JudgedFault, Sentence: err.Error() + ".", Advice: "Correct --chdb-library."}
	}
	return app.Finding{Check: check, State: app.JudgedOK, Sentence: "It is " + path + "."}
}

func sandboxFinding() app.Finding {
	const check = "sandbox"
	description, err := embedded.Sandbox()
	if err != nil {
		return app.Finding{Check: check, State: app.JudgedWarning, Sentence: "The embedded ClickHouse is not confined: " + err.Error() + ".",
			Advice: "Use Linux 5.19 or newer with Landlock (lsm=landlock,...), or run a ClickHouse server of its own if other users share this machine."}
	}
	return app.Finding{Check: check, State: app.JudgedOK, Sentence: description + "."}
}

// showFindings prints what was found; a fault is an error.
func showFindings(out io.Writer, list []app.Finding, asJSON bool) error {
	faults, warnings := 0, 0
	for _, f := range list {
		switch f.State {
		case app.JudgedFault:
			faults++
		case app.JudgedWarning:
			warnings++
		}
	}
	var err error
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(list)
	} else {
		_, err = io.WriteString(out, findingsText(list)+fmt.Sprintf("\nFaults: %d, warnings: %d.\n", faults, warnings))
	}
	if err != nil {
		return err
	}
	if faults > 0 {
		return errors.New("there are faults")
	}
	return nil
}

// findingsText has a line for each finding, and below it what to do.
func findingsText(list []app.Finding) string {
	wide := 0
	for _, f := range list {
		wide = max(wide, len(f.Check))
	}
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", f.State, wide, oneLine(f.Check), oneLine(f.Sentence))
		if f.Advice != "" && f.State != app.JudgedOK {
			fmt.Fprintf(&b, "%-7s  %-*s  do: %s\n", "", wide, "", oneLine(f.Advice))
		}
	}
	return b.String()
}
