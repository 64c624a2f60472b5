// Package kafka is the destination for a topic of any Kafka cluster: one message a
// record.
//
//	kafka://<broker>:<port>/<topic>?[brokers=<host:port>,...][&transport=tls|plaintext]
//	  [&sasl-mechanism=PLAIN|SCRAM-SHA-256|SCRAM-SHA-512&username=...&password=...]
//	  [&compression=zstd|lz4|snappy|gzip|none][&key=none|script|version]
//
// A batch is taken once all replicas in sync have all of its messages. It may come
// twice, as everywhere: the headers tidegate-batch-id and tidegate-record name a
// message for good, for readers that must not count one twice. A record that the
// cluster finds too large is refused alone; the others of its batch are taken.
package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/parameters"
)

// Headers of a message.
const (
	HeaderBatchID = "tidegate-batch-id"
	HeaderRecord  = "tidegate-record" // offset of the event in its partition
	HeaderDataset = "tidegate-dataset"
)

// tryTimeout bounds each time that messages are sent, of which the search for those that
// are refused needs several: the client repeats by itself what fails for a passing reason,
// and longer pauses are the caller's.
const tryTimeout = time.Minute

// recordRetries of the client's, half a minute where it looks for another leader, end before tryTimeout does,
// or trouble that lasts would be a timeout, and nobody would learn what the cluster says.
const recordRetries = 6

// Options of every Kafka destination.
type Options struct {
	Egress egress.Policy
}

type sink struct {
	topic string
	key   string // what a message's key is: "script", "version" or ""
	codec kgo.CompressionCodec
	dial  dial
	opts  []kgo.Opt
	try   time.Duration // tryTimeout
}

// known parameters, none of which is required.
var known = map[string]bool{"brokers": false, "transport": false, "sasl-mechanism": false, "username": false, "password": false, "compression": false, "key": false}

// New returns the sink of a kafka:// URL. Without TLS only where the policy allows
// plain HTTP, too.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	if err := parameters.Check(u.Scheme, query, known); err != nil {
		return nil, err
	}
	topic := strings.TrimPrefix(u.Path, "/")
	if topic == "" || strings.ContainsAny(topic, "/{}") || u.User != nil {
		return nil, errors.New("write kafka://<broker>:<port>/<topic>, with username and password as parameters")
	}
	s := &sink{topic: topic, try: tryTimeout}
	if s.key = query.Get("key"); s.key == "none" {
		s.key = ""
	}
	if !slices.Contains([]string{"", "script", "version"}, s.key) {
		return nil, fmt.Errorf("the parameter key is %q: none, script and version are possible", s.key)
	}
	brokers, err := brokersOf(u)
	if err != nil {
		return nil, err
	}
	if s.dial, err = dialer(query.Get("transport"), options.Egress); err != nil {
		return nil, err
	}
	if s.codec, err = codecOf(query.Get("compression")); err != nil {
		return nil, err
	}
	mechanism, err := mechanismOf(query)
	if err != nil {
		return nil, err
	}
	s.opts = []kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.ClientID("tidegate-logpush"),
		kgo.UnknownTopicRetries(1), kgo.RecordRetries(recordRetries), // no RecordDeliveryTimeout: it counts from the record's own time
		// A cluster that says nothing is waited for until the context ends, and not for ever. What is under way then comes
		// again as another client's, which the cluster knows for no repeat in any case.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RequestRetries(2), kgo.RetryTimeout(10 * time.Second),
	}
	if mechanism != nil {
		s.opts = append(s.opts, kgo.SASL(mechanism))
	}
	return s, nil
}

func brokersOf(u *url.URL) ([]string, error) {
	brokers := []string{u.Host}
	if more := u.Query().Get("brokers"); more != "" {
		brokers = append(brokers, strings.Split(more, ",")...)
	}
	for _, b := range brokers {
		host, port, err := net.SplitHostPort(b)
		if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || host == "" || n < 1 || n > 65535 {
			return nil, fmt.Errorf("the broker %q is not of the form host:port", b)
		}
	}
	return brokers, nil
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

func dialer(transport string, policy egress.Policy) (dial, error) {
	switch transport {
	case "", "tls":
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return policy.DialTLS(ctx, network, address, host)
		}, nil
	case "plaintext":
		if !policy.AllowHTTP {
			return nil, errors.New("the parameter transport=plaintext is not allowed here: use TLS, or ask the operator to allow destinations without it")
		}
		return policy.Dial, nil
	}
	return nil, fmt.Errorf("the parameter transport is %q: tls and plaintext are possible", transport)
}

func codecOf(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "", "zstd":
		return kgo.ZstdCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "none":
		return kgo.NoCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("the parameter compression is %q: zstd, lz4, snappy, gzip and none are possible", name)
}

// mechanismOf returns nil where nobody logs in.
func mechanismOf(query url.Values) (sasl.Mechanism, error) {
	name, user, password := query.Get("sasl-mechanism"), query.Get("username"), query.Get("password")
	if name == "" && user == "" && password == "" {
		return nil, nil
	}
	if user == "" || password == "" {
		return nil, errors.New("required parameters are missing: username and password go with sasl-mechanism")
	}
	switch name {
	case "", "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("the parameter sasl-mechanism is %q: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are possible", name)
}

// Traits implements logpush.Traiter.
func (s *sink) Traits() logpush.Traits { return logpush.Traits{Records: true, InOrder: true} }

// Put implements logpush.Sink. It connects anew for each batch, as these are rare
// and nobody tells a sink when its job ends.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	l := &lines{dial: s.dial}
	// Each client has a list of codecs of its own, for it writes to it.
	client, err := kgo.NewClient(append(slices.Clip(s.opts), kgo.Dialer(l.connect), kgo.ProducerBatchCompression(s.codec))...)
	if err != nil { // New let no such settings pass
		return &logpush.UploadError{Text: "the settings cannot be used", Permanent: true}
	}
	defer client.Close()
	defer l.close() // or Close would wait, too
	// A cluster that cannot be reached would otherwise be waited for until the time is up.
	bounded, end := l.question(ctx, s.try)
	err = l.why(client.Ping(bounded), bounded)
	end()
	if err == nil {
		err = s.produce(ctx, client, l, s.messages(&o))
	} else {
		err = classify(err)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (s *sink) messages(o *logpush.Object) []*kgo.Record {
	messages := make([]*kgo.Record, len(o.Items))
	for i, item := range o.Items {
		m := &kgo.Record{
			Value: bytes.TrimSuffix(item.Text, []byte("\n")), Timestamp: item.Time,
			Headers: []kgo.RecordHeader{{Key: HeaderDataset, Value: []byte(o.Dataset)}},
		}
		if o.BatchID != "" {
			m.Headers = append(m.Headers, kgo.RecordHeader{Key: HeaderBatchID, Value: []byte(o.BatchID)},
				kgo.RecordHeader{Key: HeaderRecord, Value: strconv.AppendInt(nil, item.Offset, 10)})
		}
		switch s.key {
		case "script":
			m.Key = []byte(item.Script)
		case "version":
			m.Key = []byte(item.Version)
		}
		messages[i] = m
	}
	return messages
}

// Bounds of the search of one Put. Beyond them what is refused counts as it is, good messages
// among it.
const (
	splitsMax     = 200   // finds about ten bad messages among 100,000
	sizeSplitsMax = 2_000 // a batch of 100 MB for a topic that takes 100 kB needs so many
)

// produce returns nil when all messages were taken. Where only some were refused, for what
// they are, it says which.
func (s *sink) produce(ctx context.Context, client *kgo.Client, l *lines, messages []*kgo.Record) error {
	of := search{client: client, lines: l, topic: s.topic, keyless: s.key == "", try: s.try, splits: splitsMax, sizeSplits: sizeSplitsMax, refused: map[*kgo.Record]error{}}
	if err := of.send(ctx, messages); err != nil {
		return err
	}
	if len(of.refused) == 0 {
		return nil
	}
	e := &logpush.UploadError{Permanent: true}
	for i, m := range messages {
		if why := of.refused[m]; why != nil {
			e.Text, e.Records = textOf(why), append(e.Records, i)
		}
	}
	if of.unknown && len(e.Records) == len(messages) {
		return needsKeys("the topic takes none of the messages, most likely because it is compacted")
	}
	return e
}

// search finds the messages that a cluster refuses.
type search struct {
	client             *kgo.Client
	lines              *lines
	topic              string
	keyless            bool          // the messages have no keys
	unknown            bool          // nobody may know whether the topic asks for them
	try                time.Duration // bounds each question
	splits, sizeSplits int           // that are left
	refused            map[*kgo.Record]error
}

// send sends messages, and those that are refused again by halves: a broker refuses a batch
// of the client's as a whole, for one message in it or because all together are too large
// for the topic, whose bound may be lower than the client's.
func (s *search) send(ctx context.Context, messages []*kgo.Record) error {
	bounded, end := s.lines.question(ctx, s.try)
	for _, m := range messages {
		m.Context = bounded // or it would be that of the try before
	}
	failures := map[*kgo.Record]error{}
	for _, r := range s.client.ProduceSync(bounded, messages...) { // in any order
		if r.Err != nil {
			failures[r.Record] = s.lines.why(r.Err, bounded)
		}
	}
	end()
	var refused []*kgo.Record
	left := &s.splits
	for _, m := range messages {
		err := failures[m]
		switch {
		case err == nil:
			continue
		case blamesSize(err):
			left = &s.sizeSplits
		case !blamesContent(err):
			return classify(err)
		}
		refused = append(refused, m)
		if s.keyless && errors.Is(err, kerr.InvalidRecord) {
			switch compacted, err := s.compacted(ctx); {
			case compacted:
				return needsKeys("the topic is compacted (cleanup.policy)")
			case err != nil:
				s.unknown = true
			}
			s.keyless = false // asked once
		}
	}
	if len(refused) > 1 && *left > 0 {
		*left--
		middle := len(refused) / 2
		if err := s.send(ctx, refused[:middle]); err != nil {
			return err
		}
		return s.send(ctx, refused[middle:])
	}
	for _, m := range refused {
		s.refused[m] = failures[m]
	}
	return nil
}

// compacted reports whether the topic keeps the latest message of each key, and so takes none
// without. The right to write does not include that to ask for this.
func (s *search) compacted(ctx context.Context) (bool, error) {
	request, resource := kmsg.NewPtrDescribeConfigsRequest(), kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.ConfigNames = kmsg.ConfigResourceTypeTopic, s.topic, []string{"cleanup.policy"}
	request.Resources = append(request.Resources, resource)
	bounded, end := s.lines.question(ctx, s.try)
	defer end()
	answer, err := request.RequestWith(bounded, s.client)
	if err != nil {
		return false, err
	}
	for _, described := range answer.Resources {
		if err := kerr.ErrorForCode(described.ErrorCode); err != nil {
			return false, err
		}
		for _, setting := range described.Configs {
			if setting.Value != nil && strings.Contains(*setting.Value, "compact") {
				return true, nil
			}
		}
	}
	return false, nil
}

// needsKeys is no fault of the messages: they wait for other settings.
func needsKeys(why string) *logpush.UploadError {
	return &logpush.UploadError{Permanent: true,
		Text: why + ", and messages without a key were refused (INVALID_RECORD): write key=script or key=version, or name a topic that is not compacted"}
}

// blamesSize reports whether fewer messages at a time, or shorter ones, may pass.
func blamesSize(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// blamesContent reports whether the same message would be refused again. One may be older
// than its topic allows (message.timestamp.before.max.ms), as those of replays are.
func blamesContent(err error) bool {
	return errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

func classify(err error) *logpush.UploadError {
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		// Permissions and topics can be mended while the batch waits.
		return &logpush.UploadError{Text: textOf(e)}
	}
	if errors.Is(err, kgo.ErrRecordRetries) { // it keeps the reason to itself; that a broker cannot be reached lines know
		return &logpush.UploadError{Text: "the cluster did not confirm the batch: too few replicas are in sync, they take too long, or connections break"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &logpush.UploadError{Status: logpush.StatusTimeout, Text: "timeout: the cluster did not take the batch"}
	}
	return egress.Classify(err)
}

func textOf(err error) string {
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		return e.Message + ": " + e.Description
	}
	return err.Error()
}
