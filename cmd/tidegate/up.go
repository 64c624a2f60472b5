package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
	"tidegate/internal/embedded"
	"tidegate/schema"
)

// controlFile in the data folder is the control state's SQLite file.
const controlFile = "control.db"

// engineChild is the hidden subcommand in which the ClickHouse engine runs.
const engineChild = "engine-child"

// services are the addresses and files of the embedded ones.
type services struct {
	kafkaAddr      string
	clickHouseAddr string
	library        string // path of libchdb.so; empty looks for it
}

// upSettings binds the flags of "tidegate up", with its defaults.
func upSettings(flags *pflag.FlagSet) (*app.Config, *services) {
	config := app.DefaultConfig(app.AllRoles...)
	config.Logpush.AllowHTTP = true
	config.Logpush.AllowLoopback = true
	config.Workers.DurableObjects = true // it has the one router
	config.Bind(flags)
	var local services
	flags.StringVar(&local.kafkaAddr, "kafka-addr", "127.0.0.1:9092", "address of the embedded Kafka broker, unless --kafka names another")
	flags.StringVar(&local.clickHouseAddr, "clickhouse-addr", "127.0.0.1:8123", "address of the embedded ClickHouse engine, unless --clickhouse names another")
	flags.StringVar(&local.library, "chdb-library", "", "path of libchdb.so; by default it is looked for beside the binary and in deps/")
	return &config, &local
}

func upCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "up", Short: "Start the whole platform; without external services named, on embedded ones",
		Args: arguments(0, 0),
	}
	config, local := upSettings(command.Flags())
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.ReadSettings(cmd.Flags()); err != nil {
			return usage(cmd, err)
		}
		return up(cmd, *config, *local)
	}
	return command
}

// up fills in what the command line left open, starts the embedded services that
// it needs, plays the roles, and stops the services last.
func up(cmd *cobra.Command, config app.Config, local services) (err error) {
	app.TuneCollector()
	log, err := app.NewLogger(config)
	if err != nil {
		return usage(cmd, err)
	}
	if err := app.Located(cmd.Flags(), validate(config, local)); err != nil {
		return usage(cmd, err) // before anything is started or written
	}
	config.DataDir, err = filepath.Abs(config.DataDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(config.DataDir, 0o750); err != nil {
		return err
	}
	// Before anything there is touched: the folder may be that of a running platform.
	unlock, err := lockFolder(cmd.Context(), config.DataDir, func(holder string) {
		log.Warn("waiting for the data folder", "folder", config.DataDir, "used_by", holder, "at_most", embedded.LockWait.String())
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if config.Database == "" {
		config.Database = defaultDatabase(config.DataDir)
	}
	if err := config.DefaultKeys(cmd.Context(), log); err != nil {
		return err
	}
	if config.API.AdminTokenFile == "" {
		config.API.AdminTokenFile = filepath.Join(config.DataDir, "admin-token")
	}
	config.ReadyFile = filepath.Join(config.DataDir, "ready.json")
	config.Terminal, config.Invite = cmd.OutOrStdout(), terminal(cmd.OutOrStdout())
	if len(config.Logpush.FileRoots) == 0 {
		config.Logpush.FileRoots = []string{filepath.Join(config.DataDir, "logpush")}
	}

	// One that a killed process left behind says nothing about this one.
	if err := os.Remove(config.ReadyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the old ready file: %w", err)
	}
	stops, err := startEmbedded(cmd.Context(), &config, local, log)
	defer func() { err = errors.Join(err, stopAll(stops)) }()
	if err != nil {
		return err
	}
	return app.Run(cmd.Context(), config)
}

// lockFolder takes the lock of a data folder. If somebody has it, waits is called at once with who
// that is.
func lockFolder(ctx context.Context, dir string, waits func(holder string)) (unlock func() error, err error) {
	_, holder := app.Runs(dir)
	if holder != "" {
		waits(holder)
	}
	unlock, err = embedded.Lock(ctx, dir)
	if errors.Is(err, embedded.ErrInUse) && holder != "" {
		return nil, fmt.Errorf("data directory %s is in use by %s; stop it or name another directory", dir, holder)
	}
	return unlock, err
}

// defaultDatabase is the one of a platform that is told of none.
func defaultDatabase(dataDir string) string { return filepath.Join(dataDir, controlFile) }

// validate checks the configuration as it will be once the embedded services
// have filled in their addresses.
func validate(config app.Config, local services) error {
	if len(config.Kafka) == 0 && config.KafkaSecurity == (app.Config{}).KafkaSecurity { // which the embedded broker would refuse
		config.Kafka = []string{local.kafkaAddr}
	}
	if config.ClickHouse == "" && config.Network.ClickHouse == (app.Config{}).Network.ClickHouse { // which the embedded engine knows nothing of
		config.ClickHouse = "http://" + local.clickHouseAddr
	}
	if config.Database == "" {
		config.Database = defaultDatabase(config.DataDir)
	}
	config.NameKeyFile() // which makes it unless it is there
	return config.Validate()
}

// startEmbedded starts the services that config does not name and puts their
// addresses into it. It returns how to stop them, also when it fails half-way.
func startEmbedded(ctx context.Context, config *app.Config, local services, log *slog.Logger) (stops []func() error, err error) {
	if len(config.Kafka) == 0 {
		broker, err := embedded.StartBroker(ctx, embedded.BrokerConfig{
			Addr: local.kafkaAddr, DataDir: filepath.Join(config.DataDir, "kafka"),
			Topics: []embedded.Topic{
				{Name: schema.Topic, Partitions: int32(config.Topic.Partitions), Retention: config.Topic.Retention},
				{Name: schema.TailTopic, Partitions: app.TailTopicPartitions, Retention: app.TailRetention},
			},
			Logger: log,
		})
		if err != nil {
			return stops, app.ListenError(err, "kafka-addr")
		}
		stops = append(stops, broker.Close)
		config.Kafka = []string{broker.Addr()}
	}
	if config.ClickHouse == "" {
		library := local.library
		if library == "" {
			if library, err = embedded.FindLibrary(); err != nil {
				return stops, err
			}
		}
		executable, err := os.Executable()
		if err != nil {
			return stops, fmt.Errorf("find the binary to run the ClickHouse engine with: %w", err)
		}
		engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{
			Addr: local.clickHouseAddr, DataDir: filepath.Join(config.DataDir, "clickhouse"),
			Library: library, Command: []string{executable, engineChild}, Logger: log,
		})
		if err != nil {
			return stops, app.ListenError(err, "clickhouse-addr")
		}
		stops = append(stops, engine.Close)
		config.ClickHouse = "http://" + strings.TrimPrefix(engine.Addr(), "http://")
	}
	return stops, nil
}

// stopAll stops the newest first.
func stopAll(stops []func() error) error {
	var errs []error
	for i := len(stops) - 1; i >= 0; i-- {
		errs = append(errs, stops[i]())
	}
	return errors.Join(errs...)
}
