// Package exactlyonce breaks everything between Kafka and ClickHouse, over and over
// and at random, while events keep coming, and counts afterwards.
package exactlyonce

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tidegate/internal/embedded"
	"tidegate/test/real/kafka"
)

const (
	// brokerVariable makes this program the process of an embedded broker.
	brokerVariable = "TIDEGATE_TEST_BROKER"
	// externalKafka and externalClickHouse name services to run on instead of the
	// embedded ones. What breaks those is left out then, and said.
	externalKafka      = "TIDEGATE_TEST_KAFKA"
	externalClickHouse = "TIDEGATE_TEST_CLICKHOUSE"
	// longRounds is how many rounds a long run has, instead of ten.
	longRounds = "TIDEGATE_LONG"
	// seedVariable repeats the choices of an earlier run.
	seedVariable = "TIDEGATE_TEST_SEED"
)

// bin is the folder of the binaries under test, built for this run.
var bin string

func TestMain(m *testing.M) {
	if text := os.Getenv(brokerVariable); text != "" {
		if err := serveBroker(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = filepath.Join(root, "bin", "exactlyonce") // beside deps/, where the engine's library is looked for
	build := exec.Command("go", "build", "-trimpath", "-o", bin+string(filepath.Separator), "./cmd/ingest", "./cmd/tidegate")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0") // as make build does, which has compiled most of it
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the binaries under test:", err)
		return 1
	}
	code := m.Run()
	if err := kafka.CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the cluster:", err)
		code = 1
	}
	return code
}

// brokerTask is what the process of a broker has to know.
type brokerTask struct {
	Addr, Dir string
	Topic     embedded.Topic
}

// serveBroker is a broker until it is killed, or whoever started it is gone.
func serveBroker(text string) error {
	var task brokerTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		return err
	}
	b, err := embedded.StartBroker(context.Background(), embedded.BrokerConfig{
		Addr: task.Addr, DataDir: task.Dir, Topics: []embedded.Topic{task.Topic},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return b.Close()
}
