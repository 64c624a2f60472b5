// Command router is the gateway on a machine of its own: it gets its routes from
// the control plane, splits the traffic, and emits trace events to Kafka.
package main

import (
	"os"

	"tidegate/internal/app"
)

func main() {
	os.Exit(app.Main("router", "Route live traffic to versions and emit trace events", app.RouterRoles...))
}
