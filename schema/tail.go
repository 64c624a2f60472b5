package schema

// TailTopic is the Kafka topic of what "wrangler tail" shows. A record is one
// event of a script that somebody is watching, as a message of the trace-v1
// protocol (reference/deployments.md, section 4.9). It has the request's headers,
// with the values of those that may hold a secret redacted, and in the Kafka
// headers what the filters need and the message has not. Nothing waits for it, and
// it is kept for minutes: it is for looking, not for counting.
const TailTopic = "workers_tail"

// Kafka record headers of TailTopic, beside HeaderAccount.
const (
	HeaderScript   = "script"
	HeaderClientIP = "client_ip" // of the request; empty where there is none
)
