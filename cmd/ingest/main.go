// Command ingest holds the two readers of the event topic: ingest, which counts
// each event once in ClickHouse, and logpush, which delivers jobs.
package main

import (
	"os"

	"tidegate/internal/app"
)

func main() {
	os.Exit(app.Main("ingest", "Carry trace events from Kafka to ClickHouse and to Logpush destinations", app.IngestRoles...))
}
