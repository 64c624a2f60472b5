package kinesis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

var loopback = Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true}}

// putRecord is the body of the one call that the sink makes.
type putRecord struct {
	StreamName   string
	PartitionKey string
	Data         []byte
}

// service answers as Kinesis does (JSON 1.1), with what answer says.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	puts []putRecord
}

func serve(t *testing.T, answer func(w http.ResponseWriter)) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client went
		}
		var p putRecord
		if err := json.Unmarshal(body, &p); err != nil {
			t.Errorf("the request: %v", err)
		}
		refuse := func(code string) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"`+code+`"}`)
		}
		switch {
		case r.Header.Get("X-Amz-Target") != "Kinesis_20131202.PutRecord":
			refuse("UnknownOperationException")
			return
		case !signed(t, r, body):
			refuse("InvalidSignatureException")
			return
		case answer != nil:
			answer(w)
			return
		case len(p.Data)+len(p.PartitionKey) > maxData || len(p.PartitionKey) > 256:
			refuse("ValidationException")
			return
		}
		s.mu.Lock()
		s.puts = append(s.puts, p)
		s.mu.Unlock()
		_, _ = io.WriteString(w, `{"SequenceNumber":"1","ShardId":"shardId-000000000000"}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// signed says whether a request has the signature, version 4, of the key AK and the secret SK.
func signed(t *testing.T, r *http.Request, body []byte) bool {
	t.Helper()
	got := r.Header.Get("Authorization")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	_, names, ok := strings.Cut(got, "SignedHeaders=")
	if err != nil || !ok || time.Since(at).Abs() > 15*time.Minute {
		return false
	}
	names, _, _ = strings.Cut(names, ",")
	again := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path}, Host: r.Host, Header: http.Header{}, ContentLength: int64(len(body))}
	for _, name := range strings.Split(names, ";") {
		if values := r.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK"}, again, hex.EncodeToString(sum[:]), "kinesis", "eu-west-1", at)
	if err != nil {
		t.Error(err)
	}
	return again.Header.Get("Authorization") == got
}

// stored returns what came.
func (s *service) stored() []putRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.puts)
}

func open(t *testing.T, endpoint, stream string) logpush.Sink {
	t.Helper()
	return openWith(t, endpoint, stream, loopback)
}

func openWith(t *testing.T, endpoint, stream string, options Options) logpush.Sink {
	t.Helper()
	return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, options) },
		"kinesis://"+stream+"?region=eu-west-1&access-key-id=AK&secret-access-key=SK&endpoint="+url.QueryEscape(endpoint))
}

func TestABatchIsOneRecord(t *testing.T) {
	s := serve(t, nil)
	o := sinktest.Object("a", `{"Outcome":"ok"}`+"\n")
	if err := open(t, s.URL, "events").Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(s.puts) != 1 || s.puts[0].StreamName != "events" || s.puts[0].PartitionKey != o.BatchID || !bytes.Equal(s.puts[0].Data, o.Body) {
		t.Errorf("the stream got %+v", s.puts)
	}
}

func TestRefusals(t *testing.T) {
	f := func(code string, status int, size, wantStatus int, wantPermanent bool) {
		t.Helper()
		s := serve(t, func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"__type":"`+code+`","message":"no"}`)
		})
		o := sinktest.Object("a", "")
		o.Body = bytes.Repeat([]byte("x"), size)
		err := open(t, s.URL, "events").Put(t.Context(), o)
		e, ok := errors.AsType[*logpush.UploadError](err)
		if !ok || e.Status != wantStatus || e.Permanent != wantPermanent || e.RetryAfter != 7*time.Second || e.Text != code+": no" {
			t.Errorf("%s: put returned %+v", code, err)
		}
	}
	f("ProvisionedThroughputExceededException", 400, 10, 429, false)
	f("KMSThrottlingException", 400, 10, 429, false)
	f("ResourceNotFoundException", 400, 10, 404, true)
	f("UnrecognizedClientException", 400, 10, 403, true)
	f("AccessDeniedException", 400, 10, 403, true)
	f("InternalFailure", 500, 10, 500, false)
	f("ValidationException", 400, maxData+1, 413, true)
	// The key of 5 bytes counts: a batch just below the bound was tried again for ever.
	f("ValidationException", 400, maxData-4, 413, true)
	f("ValidationException", 400, maxData-5, 400, false)
	f("ResourceNotFoundException", 400, maxData+1, 404, true)
}

func TestAWrongSecretIsRefused(t *testing.T) {
	s := serve(t, nil)
	err := sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, loopback) },
		"kinesis://events?region=eu-west-1&access-key-id=AK&secret-access-key=revoked&endpoint="+url.QueryEscape(s.URL)).Put(t.Context(), sinktest.Object("a", "a"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status != http.StatusForbidden || !e.Permanent || len(s.stored()) > 0 {
		t.Errorf("put returned %+v", err)
	}
}

func TestTroubleThatMayPass(t *testing.T) {
	err := open(t, "http://127.0.0.1:1", "events").Put(t.Context(), sinktest.Object("a", "a"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || !strings.Contains(e.Text, "connection failed") {
		t.Errorf("nobody there: %+v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, "http://127.0.0.1:1", "events").Put(ctx, sinktest.Object("a", "a")); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func TestBadSettings(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		sinktest.Refused(t, func(u *url.URL) (logpush.Sink, error) { return New(u, Options{}) }, conf, want)
	}
	f("kinesis://s", "access-key-id, region, secret-access-key")
	f("kinesis://s/path?region=r&access-key-id=a&secret-access-key=s", "without a path")
	f("kinesis://?region=r&access-key-id=a&secret-access-key=s", "kinesis://<stream>")
	f("kinesis://s?region=r&sts-assume-role-arn=arn", "sts-assume-role-arn is not supported")
	f("kinesis://s?region=r&access-key-id=a&secret-access-key=s&shard=1", `"shard" is not known`)
	f("kinesis://s?region=r&region=q&access-key-id=a&secret-access-key=s", "given twice")
	f("kinesis://s?region=r&access-key-id=a&secret-access-key=s&endpoint=http://h", "not allowed")
	f("kinesis://s?region=r&access-key-id=a&secret-access-key=s&endpoint=h/path", "must be a host")
}

// externalService names a server of the Kinesis API, http://host:port.
const externalService = "TIDEGATE_TEST_KINESIS"

func TestRealService(t *testing.T) {
	endpoint := os.Getenv(externalService)
	if endpoint == "" {
		t.Skip("TIDEGATE_TEST_KINESIS is not set: `make test-real` starts a kinesalite and sets it")
	}
	name := "logpush-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	err := open(t, endpoint, name).Put(t.Context(), sinktest.Object("a", "a"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status != http.StatusNotFound {
		t.Errorf("a stream that is not there: %+v", err)
	}
	s := open(t, endpoint, name).(*sink)
	create(t, s.client, name)
	o := sinktest.Object("a", "one\n")
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Body = bytes.Repeat([]byte("0123456789abcdef"), (maxData+16)/16)
	if e, ok := errors.AsType[*logpush.UploadError](s.Put(t.Context(), o)); !ok || e.Status != http.StatusRequestEntityTooLarge || !e.Permanent {
		t.Errorf("a record that is too large: %+v", e)
	}
	got := read(t, s.client, name)
	if want := sinktest.Object("a", "one\n"); len(got) != 1 || !bytes.Equal(got[0].Data, want.Body) || got[0].PartitionKey != want.BatchID {
		t.Errorf("the stream has %+v", got)
	}
}

// create makes a stream of one shard, for as long as the test takes.
func create(t *testing.T, client *kinesis.Client, name string) {
	t.Helper()
	if _, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String(name), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // an account has room for few
		if _, err := client.DeleteStream(context.Background(), &kinesis.DeleteStreamInput{StreamName: aws.String(name)}); err != nil {
			t.Error(err)
		}
	})
	often := func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second }
	if err := kinesis.NewStreamExistsWaiter(client, often).Wait(t.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String(name)}, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// read returns the records of a stream of one shard.
func read(t *testing.T, client *kinesis.Client, name string) (got []putRecord) {
	t.Helper()
	shards, err := client.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String(name)})
	if err != nil {
		t.Fatal(err)
	}
	at, err := client.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{
		StreamName: aws.String(name), ShardId: shards.Shards[0].ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: at.ShardIterator})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range answer.Records {
		got = append(got, putRecord{name, aws.ToString(r.PartitionKey), r.Data})
	}
	return got
}
