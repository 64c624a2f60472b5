// Command jobs-api is the control plane: the v4 API, the dashboard, and the
// rollback controller.
package main

import (
	"os"

	"tidegate/internal/app"
)

func main() {
	os.Exit(app.Main("jobs-api", "Serve the API, and judge deployments", app.JobsAPIRoles...))
}
