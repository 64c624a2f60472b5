package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
	"tidegate/pipeline/verify"
)

// verifyLimit is how many faults a person reads.
const verifyLimit = 20

func verifyCommand() *cobra.Command {
	var config app.VerifyConfig
	var dataDir, since, insertedSince string
	var asJSON bool
	command := &cobra.Command{
		Use: "verify", Short: "Compare what ClickHouse counts with what Kafka holds, record by record",
		Long: "Compare Kafka with ClickHouse while both are in use: every record that ingest has committed must have one row, and every rollup\n" +
			"must count what the rows do. Nothing is changed. It speaks to Kafka and ClickHouse themselves, and needs no token.\n" +
			"Exit status: 0 exact, 1 something differs, 2 nobody could tell.",
		Example: "  tidegate verify\n  tidegate verify --since 1h --json\n" +
			"  tidegate verify --kafka kafka-1:9092 --clickhouse http://default:secret@clickhouse:8123/tidegate",
		Args: arguments(0, 0),
	}
	flags := command.Flags()
	config.Bind(flags)
	flags.StringVar(&dataDir, "data-dir", "./data", "folder of a running \"tidegate up\"; its ready.json says where Kafka and ClickHouse are")
	flags.StringVar(&since, "since", "", "leave out records before this time, such as 2026-11-01T00:00:00Z, or before so long ago, such as 1h (default: the oldest that Kafka holds)")
	flags.StringVar(&insertedSince, "inserted-since", "", "leave out rows that were inserted before this time: those of a topic that was deleted and made anew")
	flags.IntVar(&config.Limit, "limit", verifyLimit, "faults to list of each partition and of each rollup")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnvironment(flags); err != nil {
			return usage(cmd, err)
		}
		var err error
		if since != "" {
			if config.Since, err = timeFlag(cmd, "since", since); err != nil {
				return err
			}
		}
		if insertedSince != "" {
			if config.InsertedSince, err = timeFlag(cmd, "inserted-since", insertedSince); err != nil {
				return err
			}
		}
		if err := fromReady(&config, dataDir); err != nil {
			return app.Undecided{Err: err}
		}
		if err := config.Validate(); err != nil {
			return usage(cmd, err)
		}
		report, err := app.Verify(cmd.Context(), config)
		if err != nil {
			return err
		}
		return showReport(cmd.OutOrStdout(), &report, asJSON)
	}
	return command
}

// fromReady fills in what the command line leaves open from a platform that runs in a folder.
func fromReady(config *app.VerifyConfig, dataDir string) error {
	if len(config.Kafka) > 0 && config.ClickHouse != "" {
		return nil
	}
	ready, err := readReady(dataDir)
	if err != nil {
		return err
	}
	if ready.Kafka == "" && len(config.Kafka) == 0 || ready.ClickHouse == "" && config.ClickHouse == "" {
		return fmt.Errorf("no platform with Kafka and ClickHouse is running in --data-dir %s: name both with --kafka and --clickhouse, or start one with \"tidegate up\"", dataDir)
	}
	if len(config.Kafka) == 0 {
		config.Kafka = []string{ready.Kafka}
	}
	config.ClickHouse = cmp.Or(config.ClickHouse, ready.ClickHouse)
	return nil
}

// showReport prints what was found; the error makes the exit status.
func showReport(out io.Writer, report *verify.Report, asJSON bool) error {
	var err error
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(report)
	} else {
		_, err = io.WriteString(out, reportText(report, colourful(out)))
	}
	switch {
	case err != nil:
		return app.Undecided{Err: err}
	case report.Verdict == verify.Different:
		return errors.New("ClickHouse does not count what Kafka holds")
	case report.Verdict == verify.Unknown:
		return app.Undecided{Err: errors.New("nobody can tell whether ClickHouse counts what Kafka holds")}
	}
	return nil
}
