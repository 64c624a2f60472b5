package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestSDK runs the tests of test/sdk, a module of its own, against a fresh
// platform: versions, deployments, secrets, tails and Logpush jobs through
// cloudflare-go, and Logpush through its version 0, too.
func TestSDK(t *testing.T) {
	t.Parallel()
	p := start(t, platform.Options{})
	api := record(t, p)
	command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", ".")
	command.Dir = filepath.Join("..", "sdk")
	command.Env = append(os.Environ(), "CGO_ENABLED=0",
		"TIDEGATE_TEST_API="+api.baseURL(), "TIDEGATE_TEST_TOKEN="+p.Token, "TIDEGATE_TEST_ACCOUNT="+p.AccountID,
		"TIDEGATE_TEST_FOLDER="+filepath.Join(p.DataDir, "logpush", "sdk"))
	command.WaitDelay = 5 * time.Second
	out, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("the SDK's tests fail: %v\n%s\nthe last calls:\n%s", err, out, api.latest(8))
	}
}
