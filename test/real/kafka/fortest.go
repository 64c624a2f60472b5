package kafka

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"testing"
)

const (
	// externalJars names the folder of Kafka's jars.
	externalJars = "TIDEGATE_TEST_KAFKA_CLUSTER"
	// externalAccess names a file with the Access of a cluster that runs already.
	externalAccess = "TIDEGATE_TEST_KAFKA_ACCESS"
)

// shared is the cluster of this test binary.
var shared struct {
	using   sync.Mutex // held by the test that has it
	once    sync.Once
	cluster *Cluster
	dir     string
	err     error
}

// ForTest returns a healthy cluster of three for t alone, until t ends. The cluster
// is shared by the tests of a binary, one after the other, so topics and groups need
// names of their own. Without the jars t is skipped.
func ForTest(t testing.TB) *Cluster {
	t.Helper()
	jars := os.Getenv(externalJars)
	if jars == "" {
		t.Skip(externalJars + " is not set: `make test-real` installs Apache Kafka and sets it")
	}
	shared.using.Lock()
	t.Cleanup(shared.using.Unlock)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "tidegate-kafka-"); shared.err == nil {
			shared.cluster, shared.err = Start(context.Background(), Config{Jars: jars, Dir: shared.dir, Brokers: 3})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	if err := shared.cluster.Heal(ctx); err != nil {
		t.Fatalf("heal the cluster before the test: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, b := range shared.cluster.brokers {
				t.Logf("the end of %s:\n%s", b.log, tail(b.log))
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		defer cancel()
		if err := shared.cluster.Heal(ctx); err != nil {
			t.Errorf("heal the cluster after the test: %v", err)
		}
	})
	return shared.cluster
}

// CloseShared ends the cluster of ForTest, if there is one, for TestMain to call.
func CloseShared() error {
	if shared.cluster == nil {
		return nil
	}
	err := shared.cluster.Close()
	_ = os.RemoveAll(shared.dir) // a temporary folder
	return err
}

// ExternalAccess returns how to reach the broker that runs for all suites, and false
// if there is none.
func ExternalAccess(t testing.TB) (Access, bool) {
	t.Helper()
	file := os.Getenv(externalAccess)
	if file == "" {
		return Access{}, false
	}
	var a Access
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		t.Fatalf("read %s: %v", externalAccess, err)
	}
	return a, true
}
