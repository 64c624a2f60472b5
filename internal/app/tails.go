package app

import (
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// TailRetention of the topic that viewers read: whoever looks after minutes has
// Logpush or the database.
const TailRetention = 10 * time.Minute

func (p *process) tailStream() stream.Config {
	return stream.Config{Brokers: p.config.Kafka, Topic: schema.TailTopic}
}
