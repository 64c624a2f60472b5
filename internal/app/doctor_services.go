package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/api/client"
	"tidegate/internal/clickhouse"
	"tidegate/internal/errs"
	"tidegate/internal/store"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// notNamed is what there is to say of a service that no setting names.
func (c *DoctorConfig) notNamed(check, flag string) []Finding {
	if c.Embedded {
		return []Finding{{check, JudgedUnknown, "It does not run, and no setting names another: \"tidegate up\" starts its own.", "Start \"tidegate up\" to have it looked at."}}
	}
	return []Finding{{check, JudgedUnknown, "It does not run, and no setting names one.", fmt.Sprintf("Name it in --%s, or in the file of --config.", flag)}}
}

func (c *DoctorConfig) kafka(ctx context.Context) []Finding {
	if len(c.Kafka) == 0 {
		return c.notNamed("kafka", "kafka")
	}
	d, err := stream.Describe(ctx, stream.Config{Brokers: c.Kafka, Topic: schema.Topic, Security: c.KafkaSecurity})
	switch {
	case errors.Is(err, stream.ErrNoTopic):
		return []Finding{{"kafka", JudgedWarning, fmt.Sprintf("It answers, and has no topic %s.", schema.Topic), "The first process makes it; if that may not, make it as docs/operations says."}}
	case err != nil:
		return []Finding{{"kafka", JudgedFault, fmt.Sprintf("%s: %v.", strings.Join(c.Kafka, ","), err), "Start the brokers, or correct --kafka and the flags that begin with --kafka-tls and --kafka-sasl. Until then events wait on the routers' disks."}}
	}
	return kafkaFindings(d, &c.Config)
}

// kafkaFindings compares a topic with the settings by which it would be made.
func kafkaFindings(d stream.Description, c *Config) []Finding {
	list := []Finding{ok("kafka", "Brokers: %d; the topic of events has %d partitions with %d replicas.", d.Brokers, d.Partitions, d.Replicas)}
	add := func(check string, state Judgement, advice, format string, args ...any) {
		list = append(list, Finding{check, state, fmt.Sprintf(format, args...), advice})
	}
	if d.Leaderless > 0 {
		add("kafka partitions", JudgedFault, "Start the brokers that have them.", "Partitions without a leader, which nobody can read or write: %d.", d.Leaderless)
	}
	if d.Partitions != c.Topic.Partitions {
		add("kafka partitions", JudgedWarning, "Set --topic-partitions to what the topic has, or add partitions with kafka-topics.sh --alter; a topic that exists is left as it is.",
			"The topic has %d partitions, and --topic-partitions says %d.", d.Partitions, c.Topic.Partitions)
	}
	if d.Replicas < c.Topic.Replication {
		add("kafka replicas", JudgedWarning, "Add replicas with kafka-reassign-partitions.sh.", "A partition has %d replicas, and --topic-replication says %d.", d.Replicas, c.Topic.Replication)
	}
	if d.MinInSync != nil {
		switch {
		case d.InSync < *d.MinInSync:
			add("kafka replicas", JudgedFault, "Start the brokers that are away.", "A partition has %d replicas up to date and takes nothing with fewer than %d.", d.InSync, *d.MinInSync)
		case d.InSync < d.Replicas:
			add("kafka replicas", JudgedWarning, "See why a broker is away or behind.", "A partition has %d of %d replicas up to date.", d.InSync, d.Replicas)
		}
		if d.Replicas > 2 && *d.MinInSync < 2 {
			add("kafka min.insync.replicas", JudgedWarning, "Set min.insync.replicas=2 of the topic with kafka-configs.sh.", "It is %d: an event is confirmed that one broker has, and lost with it.", *d.MinInSync)
		}
	}
	if d.Retention == nil {
		return list
	}
	if forever := *d.Retention < 0; !forever && *d.Retention != c.Topic.Retention {
		add("kafka retention", JudgedWarning, "Set --topic-retention to that, or retention.ms of the topic with kafka-configs.sh.",
			"The topic keeps events for %s, and --topic-retention says %s.", shortDuration(d.Retention.String()), shortDuration(c.Topic.Retention.String()))
	}
	if d.OffsetsRetention != nil && (*d.Retention < 0 || *d.OffsetsRetention < *d.Retention) {
		add("kafka offsets.retention", JudgedWarning, "Set offsets.retention.minutes of the brokers to more than the topic's retention.",
			"Brokers forget the position of a reader that is away after %s, before the topic forgets the events: it would begin elsewhere.", shortDuration(d.OffsetsRetention.String()))
	}
	return list
}

func (c *DoctorConfig) engine(ctx context.Context) []Finding {
	if c.ClickHouse == "" {
		if !c.has(RoleIngest) && !c.has(RoleAPI) && !c.has(RoleRollback) {
			return nil
		}
		return c.notNamed("clickhouse", "clickhouse")
	}
	failed := func(err error) []Finding {
		return []Finding{{"clickhouse", JudgedFault, fmt.Sprintf("%s: %v.", shown(c.ClickHouse), err), "Start the server, or correct --clickhouse and the flags that begin with it. Until then events wait in Kafka, and nothing is judged."}}
	}
	config := clickhouse.DefaultConfig(c.ClickHouse)
	config.Cluster = c.Cluster
	config.Access = c.Network.ClickHouse
	db, err := clickhouse.Open(config)
	if err != nil {
		return failed(err)
	}
	i, err := db.Inspect(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return failed(err)
	}
	return engineFindings(i)
}

func engineFindings(i clickhouse.Inspection) []Finding {
	list := []Finding{ok("clickhouse", "It answers, and is version %s.", i.Version)}
	if older(i.Version, clickhouse.VersionTested) {
		list[0] = Finding{"clickhouse", JudgedWarning, fmt.Sprintf("It is version %s, which is older than what is tested (%s).", i.Version, clickhouse.VersionTested), "Upgrade the server."}
	}
	if i.Missing > 0 {
		list = append(list, Finding{"clickhouse tables", JudgedWarning, fmt.Sprintf("Migrations that were not applied: %d.", i.Missing), "Start an ingest or jobs-api of this version, which applies them; if one runs, its log says what keeps it."})
	}
	if i.Unknown > 0 {
		list = append(list, Finding{"clickhouse tables", JudgedWarning, fmt.Sprintf("Migrations of a newer version: %d.", i.Unknown), "Upgrade this machine, too."})
	}
	if len(i.Forgetful) > 0 {
		list = append(list, Finding{"clickhouse repeats", JudgedFault, fmt.Sprintf("Events that are sent again are counted twice in %s: its engine remembers no blocks.", strings.Join(i.Forgetful, ", ")),
			"ALTER TABLE ... MODIFY SETTING non_replicated_deduplication_window = 10000 for each."})
	}
	return append(list, clockFinding("clickhouse clock", "ClickHouse", i.Skew, i.Within))
}

// older compares versions by the numbers that both have.
func older(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range min(len(a), len(b)) {
		x, errX := strconv.Atoi(a[i])
		y, errY := strconv.Atoi(b[i])
		if errX != nil || errY != nil || x != y {
			return errX == nil && errY == nil && x < y
		}
	}
	return false
}

func (c *DoctorConfig) database(ctx context.Context) []Finding {
	if c.Database == "" {
		if !c.has(RoleAPI) && !c.has(RoleRollback) && !c.has(RoleLogpush) {
			return nil
		}
		return c.notNamed("database", "database")
	}
	i, err := store.Inspect(ctx, c.Database)
	if err != nil {
		return []Finding{{"database", JudgedFault, fmt.Sprintf("%s: %v.", shown(c.Database), err), "Start the server, or correct --database. Until then routers go on with what they have."}}
	}
	list := append(databaseFindings(shown(c.Database), i), c.clearTextFindings()...)
	if i.Absent || i.Damage != "" {
		return list
	}
	return append(list, c.keysFindings(ctx)...)
}

// clearTextFindings tell of an address that takes clear text, always or where the server has no TLS.
func (c *DoctorConfig) clearTextFindings() []Finding {
	servers, err := c.inClearText()
	if err != nil || len(servers) == 0 { // it could be read a moment ago
		return nil
	}
	return []Finding{{"database TLS", JudgedWarning, fmt.Sprintf("%s may be spoken to in clear text: always with sslmode=disable, else if it has no TLS, or somebody in between says so.", strings.Join(servers, ", ")), clearTextAdvice}}
}

// keysFindings look whether the keys for secrets are those that the database was used with. A
// process without one of them is refused.
func (c *DoctorConfig) keysFindings(ctx context.Context) []Finding {
	const check = "keys for secrets"
	needed, err := keysOf(ctx, c.Database)
	if err != nil {
		return []Finding{{check, JudgedUnknown, fmt.Sprintf("Those that %s needs cannot be told: %v.", shown(c.Database), err), "Correct --database."}}
	}
	if len(needed) == 0 { // it is new, or of a release that knew none
		return nil
	}
	where := c.SecretsKeyFile
	if where == "" {
		where = "the variable " + secretsKeyVariable
		if os.Getenv(secretsKeyVariable) == "" {
			return []Finding{{check, JudgedUnknown, "The database needs " + strings.Join(needed, ", ") + ", and no setting names any.", "Name their file in --secrets-key-file, or in the file of --config."}}
		}
	}
	const advice = "Put back the keys that the other processes of this database have, or name their file in --secrets-key-file. If they are lost, docs/operations/README.md says what to do."
	keys, err := ReadKeys(c.SecretsKeyFile)
	if err != nil {
		return []Finding{{check, JudgedFault, fmt.Sprintf("The database needs %s, and none can be had: %v.", strings.Join(needed, ", "), err), advice}}
	}
	if missing := slices.DeleteFunc(needed, keys.Has); len(missing) > 0 {
		return []Finding{{check, JudgedFault, fmt.Sprintf("Secrets in the database are sealed with %s, which %s does not have: no process starts with it.", strings.Join(missing, ", "), where), advice}}
	}
	return []Finding{ok(check, "Every key that the database needs is in %s.", where)}
}

func databaseFindings(name string, i store.Inspection) []Finding {
	if i.Absent {
		return []Finding{ok("database", "%s is not there yet: the first start makes it.", name)}
	}
	list := []Finding{ok("database", "%s answers; its schema is %d.", i.Kind, i.Schema)}
	if i.Version > 0 && i.Version/10000 < store.PostgresTested {
		list[0] = Finding{"database", JudgedWarning, fmt.Sprintf("PostgreSQL is version %d, which is older than what is tested (%d).", i.Version/10000, store.PostgresTested), "Upgrade the server."}
	}
	switch {
	case i.Damage != "":
		list = append(list, Finding{"database file", JudgedFault, fmt.Sprintf("SQLite finds %s damaged: %s.", name, i.Damage), "Stop the platform, keep the file, and restore a backup: tidegate restore --replace FILE."})
	case i.Schema > i.Newest:
		list = append(list, Finding{"database schema", JudgedFault, fmt.Sprintf("It is %d, and this version knows those up to %d.", i.Schema, i.Newest), "Run the version that has upgraded it, or a later one."})
	case i.Schema < i.Newest:
		list = append(list, Finding{"database schema", JudgedWarning, fmt.Sprintf("It is %d, and this version has %d.", i.Schema, i.Newest), "Take a backup; the next start of a jobs-api or ingest of this version brings it up to date."})
	}
	if i.Version > 0 {
		list = append(list, clockFinding("database clock", "PostgreSQL", i.Skew, i.Within))
	}
	return list
}

// controlPlane asks the API what it knows of all parts.
func (c *DoctorConfig) controlPlane(ctx context.Context) []Finding {
	if c.API == "" {
		return c.notNamed("api", "api")
	}
	transport := c.Network.controlClient().Transport()
	defer transport.CloseIdleConnections()
	api := client.New(c.API, c.Token, &http.Client{Transport: transport, Timeout: 2 * probeTimeout})
	begun := time.Now()
	health, err := api.SystemHealth(ctx)
	took := time.Since(begun)
	if err != nil {
		return []Finding{apiFinding(c.API, c.Token, err)}
	}
	list := []Finding{
		ok("api", "%s answers; it is version %s.", c.API, health.Version),
		clockFinding("api clock", "the API", health.At.Sub(begun.Add(took/2)), took/2),
	}
	for _, part := range health.Parts {
		list = append(list, partFinding(part))
	}
	return append(list, deadLetterFindings(ctx, api)...)
}

func apiFinding(address, token string, err error) Finding {
	failure, known := errors.AsType[*errs.Error](err)
	switch {
	case known && failure.Kind == errs.Unauthorized && token == "":
		return Finding{"api", JudgedUnknown, address + " answers, and tells nobody without a token how the parts are.", "Name a file with the operator's token in --token-file, or set TIDEGATE_TOKEN."}
	case known && failure.Kind == errs.Unauthorized:
		return Finding{"api", JudgedFault, fmt.Sprintf("%s refuses the token: %v.", address, err), "Name a file with one that holds in --token-file; \"tidegate token create\" makes one. After a restore those of the backup hold."}
	case known && failure.Kind != errs.Unavailable:
		return Finding{"api", JudgedUnknown, fmt.Sprintf("%s does not tell this token how the parts are: %v.", address, err), "Use the operator's token, which is in the admin-token file of the first control plane."}
	default:
		return Finding{"api", JudgedFault, fmt.Sprintf("%s does not answer: %v.", address, err), "Start a control plane (jobs-api, or \"tidegate up\"), or correct --api, --api-ca-file and --api-cert-file. Until then routers go on with what they have."}
	}
}

// partFinding takes over what the control plane says of a part.
func partFinding(p client.SystemPart) Finding {
	check := p.Kind
	if p.Name != "" && !strings.EqualFold(p.Name, p.Kind) {
		check += " " + p.Name
	}
	state, known := map[string]Judgement{"ok": JudgedOK, "degraded": JudgedWarning, "down": JudgedFault}[p.State]
	if !known {
		state = JudgedUnknown
	}
	return Finding{"seen by the api: " + check, state, p.Sentence, p.Advice}
}

// deadLetterFindings tell of jobs whose destination refuses what it is sent.
func deadLetterFindings(ctx context.Context, api *client.Client) []Finding {
	const check = "dead letters"
	accounts, err := api.Accounts(ctx)
	if err != nil {
		return []Finding{{check, JudgedUnknown, fmt.Sprintf("The accounts cannot be listed: %v.", err), "Use the operator's token."}}
	}
	var list []Finding
	for _, account := range accounts {
		jobs, err := api.JobStates(ctx, account.ID)
		if err != nil {
			list = append(list, Finding{check, JudgedUnknown, fmt.Sprintf("The jobs of account %s cannot be listed: %v.", account.ID, err), "Use the operator's token."})
		}
		for _, job := range jobs {
			if job.DeadLetters > 0 {
				list = append(list, Finding{check, JudgedWarning, fmt.Sprintf("Job %d of account %s has %d that wait.", job.JobID, account.ID, job.DeadLetters),
					fmt.Sprintf("Read why: tidegate jobs dead-letters list %d --account %s; then resend or delete them.", job.JobID, account.ID)})
			}
		}
	}
	if len(list) == 0 {
		list = append(list, ok(check, "None waits."))
	}
	return list
}
