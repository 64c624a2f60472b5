package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/certs"
	"tidegate/internal/certs/certstest"
	"tidegate/internal/clickhouse"
	"tidegate/internal/embedded"
	"tidegate/internal/store"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// says checks one finding; advice is owed wherever something is wrong.
func says(t *testing.T, f Finding, state Judgement, words string) {
	t.Helper()
	if f.State != state || !strings.Contains(f.Sentence, words) || (f.State != JudgedOK) != (f.Advice != "") {
		t.Errorf("got %+v, want %s with %q", f, state, words)
	}
}

// one finding of a check.
func one(t *testing.T, list []Finding, check string) Finding {
	t.Helper()
	for _, f := range list {
		if f.Check == check {
			return f
		}
	}
	t.Errorf("nothing is said of %s: %+v", check, list)
	return Finding{}
}

func TestDoctorNamesWhoHasThePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	says(t, portFinding("api-addr", addr, true), JudgedFault, fmt.Sprintf("in use by app.test (process %d)", os.Getpid()))
	const comm = "/proc/self/comm"
	name, err := os.ReadFile(comm)
	if err == nil {
		err = os.WriteFile(comm, []byte("tidegate"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	says(t, portFinding("api-addr", addr, true), JudgedOK, fmt.Sprintf("is used by tidegate (process %d)", os.Getpid()))
	another := portFinding("api-addr", addr, false)
	says(t, another, JudgedFault, fmt.Sprintf("in use by tidegate (process %d)", os.Getpid()))
	if !strings.Contains(another.Advice, "name it in --data-dir") || !strings.Contains(another.Advice, "--api-addr") {
		t.Errorf("of a platform of another folder it advises %q", another.Advice)
	}
	if err := errors.Join(os.WriteFile(comm, name, 0o600), l.Close()); err != nil {
		t.Fatal(err)
	}
	says(t, portFinding("api-addr", addr, true), JudgedOK, "is free")
	says(t, portFinding("api-addr", "192.0.2.1:80", true), JudgedFault, "is not an address of this machine")
	says(t, portFinding("api-addr", "nonsense", true), JudgedFault, "Nobody can listen")
}

func TestDoctorTriesTheDataFolder(t *testing.T) {
	dir := t.TempDir()
	says(t, dataDirFinding(dir, true), JudgedOK, "can be written to")
	says(t, dataDirFinding(filepath.Join(dir, "a", "b"), true), JudgedOK, "is not there yet")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, dataDirFinding(filepath.Join(file, "data"), true), JudgedFault, "Nothing can be written")
	if left, err := filepath.Glob(filepath.Join(dir, ".doctor-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if f := spaceOf(filepath.Join(dir, "a", "b")); f.State == JudgedUnknown {
		t.Errorf("%+v", f)
	}
	says(t, spaceFinding("d", 0, 1<<40), JudgedFault, "0 MiB free")
	says(t, spaceFinding("d", 1<<30, 1<<40), JudgedWarning, "1024 MiB free")
	says(t, spaceFinding("d", 1<<39, 1<<40), JudgedOK, "free")
	says(t, openFilesFinding(256), JudgedFault, "256")
	says(t, openFilesFinding(4096), JudgedWarning, "4096")
	says(t, openFilesFinding(openFilesWarning), JudgedOK, "65536")
}

func TestDoctorKnowsWhoRunsInTheDataFolder(t *testing.T) {
	c := DoctorConfig{Config: Config{DataDir: t.TempDir()}, Embedded: true}
	path := filepath.Join(c.DataDir, "lock")
	look := func() Finding { return c.lockFinding(lookAtLock(path)) }
	says(t, look(), JudgedOK, "No platform runs")
	ready := filepath.Join(c.DataDir, "ready.json")
	if err := os.WriteFile(ready, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, look(), JudgedWarning, "was killed")
	unlock, err := embedded.Lock(t.Context(), c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	says(t, look(), JudgedOK, fmt.Sprintf("app.test (process %d)", os.Getpid()))
	if err := os.Remove(ready); err != nil {
		t.Fatal(err)
	}
	says(t, look(), JudgedWarning, "has not said that it serves")
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	// Looking has not kept the lock.
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("the lock is taken: %v", err)
	}
}

// writeCertificate writes a pair that is valid for a time.
func writeCertificate(t *testing.T, dir string, from, until time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%d", until.UnixNano())
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestDoctorReadsCertificates(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	good, goodKey := writeCertificate(t, dir, now.Add(-time.Hour), now.Add(90*24*time.Hour))
	soon, soonKey := writeCertificate(t, dir, now.Add(-time.Hour), now.Add(3*24*time.Hour))
	gone, goneKey := writeCertificate(t, dir, now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	later, laterKey := writeCertificate(t, dir, now.Add(time.Hour), now.Add(90*24*time.Hour+1))
	_, f := settingsFlags(t, fmt.Sprintf("gateway-tls-cert: [%s, %s, %s, %s, %s, %s]\ngateway-tls-key: [%s, %s, %s, %s, %s, %s]\nkafka-tls-cert-file: %s\nkafka-tls-key-file: %s\n",
		good, soon, gone, later, good, goodKey, goodKey, soonKey, goneKey, laterKey, soonKey, goodKey, gone, goneKey), AllRoles...)
	if err := ReadSettings(f); err != nil {
		t.Fatal(err)
	}
	list := certificateFindings(f, now)
	if len(list) != 7 {
		t.Fatalf("%d findings: %+v", len(list), list)
	}
	says(t, list[0], JudgedOK, "is valid until")
	says(t, list[1], JudgedWarning, "expires on")
	says(t, list[2], JudgedFault, "expired on")
	says(t, list[3], JudgedFault, "is not valid before")
	says(t, list[4], JudgedFault, "private key does not match")
	says(t, list[5], JudgedFault, "cannot be used")
	says(t, list[6], JudgedFault, "expired on")
}

// An authority that has ended is told of, whichever flag names it.
func TestDoctorReadsAuthorities(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	good, key := writeCertificate(t, dir, now.Add(-time.Hour), now.Add(90*24*time.Hour))
	soon, _ := writeCertificate(t, dir, now.Add(-time.Hour), now.Add(3*24*time.Hour))
	gone, _ := writeCertificate(t, dir, now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	later, _ := writeCertificate(t, dir, now.Add(time.Hour), now.Add(90*24*time.Hour+1))
	together := func(name string, files ...string) string {
		t.Helper()
		var all []byte
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, all, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := ""
	want := map[string]struct {
		file  string
		state Judgement
		words string
	}{
		"kafka-tls-ca-file":  {gone, JudgedFault, "No authority in " + gone + " is valid now"},
		"clickhouse-ca-file": {together("two", good, gone), JudgedWarning, "is not valid now"},
		"api-client-ca-file": {together("three", good, soon), JudgedWarning, "ends soon"},
		"ops-client-ca-file": {together("four", good, key), JudgedOK, "is valid until"},
		"oidc-ca-file":       {later, JudgedFault, "No authority in " + later + " is valid now"},
		"api-ca-file":        {key, JudgedFault, "no certificate"},
	}
	for flag, w := range want {
		text += flag + ": " + w.file + "\n"
	}
	_, f := settingsFlags(t, text, AllRoles...)
	if err := ReadSettings(f); err != nil {
		t.Fatal(err)
	}
	list := certificateFindings(f, now)
	if len(list) != len(want) {
		t.Errorf("%d findings: %+v", len(list), list)
	}
	for flag, w := range want {
		says(t, one(t, list, "authority "+flag), w.state, w.words)
	}
}

func TestDoctorKnowsTheWorkersRuntime(t *testing.T) {
	says(t, workerdFinding("/no/such/workerd"), JudgedFault, "does not exist")
	program := filepath.Join(t.TempDir(), "workerd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	says(t, workerdFinding(program), JudgedFault, "is no program for Linux")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	self = self[:4096] // the header and the program headers
	clear(self[0x28:0x30])
	clear(self[0x3c:0x40]) // no sections
	self[0x12] = 0xf3      // RISC-V
	if err := os.WriteFile(program, self, 0o700); err != nil {
		t.Fatal(err)
	}
	says(t, workerdFinding(program), JudgedFault, "is for EM_RISCV")
}

// A broker that is there, with a topic that is not as the settings say, and that stops.
func TestDoctorAsksKafka(t *testing.T) {
	broker, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{
		Addr: "127.0.0.1:0", DataDir: t.TempDir(), Topics: []embedded.Topic{{Name: schema.Topic, Partitions: 2, Retention: time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := DoctorConfig{Config: DefaultConfig(AllRoles...)}
	says(t, c.kafka(t.Context())[0], JudgedUnknown, "no setting names one")
	c.Kafka = []string{broker.Addr()}
	list := c.kafka(t.Context())
	says(t, one(t, list, "kafka"), JudgedOK, "2 partitions with 1 replicas")
	says(t, one(t, list, "kafka partitions"), JudgedWarning, "has 2 partitions, and --topic-partitions says 4")
	says(t, one(t, list, "kafka retention"), JudgedWarning, "for 1h, and --topic-retention says 24h")
	c.Topic.Partitions, c.Topic.Retention, c.Topic.Replication = 2, time.Hour, 3
	list = c.kafka(t.Context())
	says(t, one(t, list, "kafka replicas"), JudgedWarning, "has 1 replicas, and --topic-replication says 3")
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	says(t, c.kafka(t.Context())[0], JudgedFault, broker.Addr())
}

func TestDoctorJudgesATopic(t *testing.T) {
	c := DefaultConfig(AllRoles...)
	day, hour, two, single := 24*time.Hour, time.Hour, 2, 1
	healthy := stream.Description{Brokers: 3, Partitions: 4, Replicas: 3, InSync: 3, Retention: &day, MinInSync: &two, OffsetsRetention: &day}
	if list := kafkaFindings(healthy, &c); len(list) != 1 || list[0].State != JudgedOK {
		t.Errorf("a healthy topic: %+v", list)
	}
	f := func(change func(d *stream.Description), check string, state Judgement, words string) {
		t.Helper()
		d := healthy
		change(&d)
		says(t, one(t, kafkaFindings(d, &c), check), state, words)
	}
	f(func(d *stream.Description) { d.Leaderless = 1 }, "kafka partitions", JudgedFault, "without a leader")
	f(func(d *stream.Description) { d.InSync = 2 }, "kafka replicas", JudgedWarning, "2 of 3")
	f(func(d *stream.Description) { d.InSync = 1 }, "kafka replicas", JudgedFault, "takes nothing with fewer than 2")
	f(func(d *stream.Description) { d.MinInSync = &single }, "kafka min.insync.replicas", JudgedWarning, "It is 1")
	f(func(d *stream.Description) { d.OffsetsRetention = &hour }, "kafka offsets.retention", JudgedWarning, "after 1h")
}

func TestDoctorAsksClickHouse(t *testing.T) {
	c := DoctorConfig{Config: DefaultConfig(AllRoles...)}
	says(t, c.engine(t.Context())[0], JudgedUnknown, "no setting names one")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	c.ClickHouse = strings.Replace(server.URL, "http://", "http://user:secret@", 1)
	for range 2 { // one that refuses, and one that is gone
		f := c.engine(t.Context())[0]
		says(t, f, JudgedFault, strings.TrimPrefix(server.URL, "http://"))
		if strings.Contains(f.Sentence, "secret") {
			t.Errorf("the password is in %q", f.Sentence)
		}
		server.Close()
	}
	healthy := clickhouse.Inspection{Version: "26.10.1.2"}
	for _, f := range engineFindings(healthy) {
		says(t, f, JudgedOK, "")
	}
	bad := engineFindings(clickhouse.Inspection{Version: "25.12.1", Missing: 3, Unknown: 1, Forgetful: []string{"trace_events"}, Skew: -7 * time.Second})
	says(t, bad[0], JudgedWarning, "older than what is tested")
	says(t, bad[1], JudgedWarning, "not applied: 3")
	says(t, bad[2], JudgedWarning, "newer version: 1")
	says(t, bad[3], JudgedFault, "counted twice in trace_events")
	says(t, bad[4], JudgedFault, "7s behind")
}

// securedServer is one that takes clients with a certificate of the authority only.
func securedServer(t *testing.T, ca *certstest.Authority, handler http.HandlerFunc) string {
	t.Helper()
	pair := certs.Pair(ca.Issue(t, "server", "127.0.0.1"))
	files, err := certs.Load([]certs.Pair{pair}, certs.Metrics{}, slog.New(slog.DiscardHandler))
	if err == nil {
		err = files.AskClients(ca.File)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.Listener = files.Listener(s.Listener, tls.RequireAndVerifyClientCert)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return "https://" + s.Listener.Addr().String()
}

// What the processes need to reach ClickHouse and the API, doctor uses too.
func TestDoctorUsesTheSettingsOfTheNetwork(t *testing.T) {
	ca := certstest.NewAuthority(t, "private")
	own := ca.Issue(t, "doctor")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := DoctorConfig{Config: DefaultConfig(AllRoles...)}
	c.ClickHouse = securedServer(t, ca, func(w http.ResponseWriter, r *http.Request) {
		code, text := "516", "Authentication failed"
		if r.Header.Get("X-ClickHouse-User") == "tidegate" && r.Header.Get("X-ClickHouse-Key") == "s3cret" {
			code, text = "159", "it knows who asks, and is busy"
		}
		w.Header().Set("X-ClickHouse-Exception-Code", code)
		http.Error(w, "Code: "+code+". DB::Exception: "+text, http.StatusInternalServerError)
	})
	c.API = securedServer(t, ca, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/client/v4/system/health":
			_, _ = fmt.Fprintf(w, `{"success":true,"result":{"state":"ok","at":%q,"version":"v9","parts":[]}}`, time.Now().Format(time.RFC3339Nano))
		default:
			_, _ = io.WriteString(w, `{"success":true,"result":[],"result_info":{"page":1,"per_page":20,"count":0,"total_count":0}}`)
		}
	})
	says(t, c.engine(t.Context())[0], JudgedFault, "name the file of the authority")
	says(t, c.controlPlane(t.Context())[0], JudgedFault, "name the file of the authority")
	c.Network.ClickHouse.TLS.CAFile, c.Network.ControlCA = ca.File, ca.File
	says(t, c.engine(t.Context())[0], JudgedFault, "asks for a certificate of the client")
	says(t, c.controlPlane(t.Context())[0], JudgedFault, "asks for a certificate of the client")
	c.Network.ClickHouse.TLS.CertFile, c.Network.ClickHouse.TLS.KeyFile = own.Cert, own.Key
	c.Network.ControlCert, c.Network.ControlKey = own.Cert, own.Key
	says(t, c.engine(t.Context())[0], JudgedFault, "Authentication failed")
	for _, f := range c.controlPlane(t.Context()) {
		says(t, f, JudgedOK, "")
	}
	c.Network.ClickHouse.User, c.Network.ClickHouse.PasswordFile = "tidegate", password
	says(t, c.engine(t.Context())[0], JudgedFault, "it knows who asks")
}

func TestDoctorComparesClocks(t *testing.T) {
	says(t, clockFinding("c", "X", 900*time.Millisecond, 0), JudgedOK, "agrees")
	says(t, clockFinding("c", "X", 2*time.Second, 1500*time.Millisecond), JudgedOK, "agrees")
	says(t, clockFinding("c", "X", 2*time.Second, 0), JudgedWarning, "2s ahead")
	says(t, clockFinding("c", "X", -6*time.Second, time.Millisecond), JudgedFault, "6s behind")
}

func TestDoctorLooksAtTheDatabase(t *testing.T) {
	c := DoctorConfig{Config: DefaultConfig(AllRoles...)}
	says(t, c.database(t.Context())[0], JudgedUnknown, "no setting names one")
	c.Database = filepath.Join(t.TempDir(), "control.db")
	says(t, c.database(t.Context())[0], JudgedOK, "is not there yet")
	s, err := store.Open(t.Context(), c.Database, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if list := c.database(t.Context()); len(list) != 1 || list[0].State != JudgedOK {
		t.Errorf("a healthy database: %+v", list)
	}
	if err := os.WriteFile(c.Database, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, c.database(t.Context())[0], JudgedFault, c.Database)
	c.Database = "postgres://user:secret@127.0.0.1:1/none?connect_timeout=2"
	f := c.database(t.Context())[0]
	says(t, f, JudgedFault, "127.0.0.1:1")
	if strings.Contains(f.Sentence, "secret") {
		t.Errorf("the password is in %q", f.Sentence)
	}
	says(t, one(t, databaseFindings("d", store.Inspection{Schema: 5, Newest: 7}), "database schema"), JudgedWarning, "this version has 7")
	says(t, one(t, databaseFindings("d", store.Inspection{Schema: 9, Newest: 7}), "database schema"), JudgedFault, "knows those up to 7")
	says(t, one(t, databaseFindings("d", store.Inspection{Damage: "page 3"}), "database file"), JudgedFault, "page 3")
	says(t, databaseFindings("d", store.Inspection{Kind: "PostgreSQL", Version: 130004})[0], JudgedWarning, "version 13")
	says(t, one(t, databaseFindings("d", store.Inspection{Version: 150004, Skew: 9 * time.Second}), "database clock"), JudgedFault, "9s ahead")
}

// The keys of another database are a fault, and looking for them changes nothing.
func TestDoctorLooksForTheKeysOfSecrets(t *testing.T) {
	dir := t.TempDir()
	c := DoctorConfig{Config: DefaultConfig(AllRoles...)}
	c.Database, c.SecretsKeyFile = filepath.Join(dir, "control.db"), filepath.Join(dir, "keys")
	id, err := MakeKeys(c.SecretsKeyFile)
	if err == nil {
		err = openOnce(t, &c.Config)
	}
	if err != nil {
		t.Fatal(err)
	}
	look := func() Finding {
		t.Helper()
		f := one(t, c.database(t.Context()), "keys for secrets")
		if ids, err := keysOf(t.Context(), c.Database); err != nil || !cmp.Equal(ids, []string{id}) {
			t.Errorf("the database has the keys %v, %v", ids, err)
		}
		return f
	}
	says(t, look(), JudgedOK, c.SecretsKeyFile)
	if _, err := AddKey(c.SecretsKeyFile); err != nil {
		t.Fatal(err)
	}
	says(t, look(), JudgedOK, c.SecretsKeyFile) // one that has sealed nothing yet
	text, err := os.ReadFile(c.SecretsKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	c.SecretsKeyFile = filepath.Join(dir, "none")
	says(t, look(), JudgedFault, "there is no file "+c.SecretsKeyFile)
	if _, err := MakeKeys(c.SecretsKeyFile); err != nil {
		t.Fatal(err)
	}
	says(t, look(), JudgedFault, "sealed with "+id+", which "+c.SecretsKeyFile+" does not have")
	c.SecretsKeyFile = ""
	says(t, look(), JudgedUnknown, "needs "+id+", and no setting names any")
	t.Setenv(secretsKeyVariable, string(text))
	says(t, look(), JudgedOK, secretsKeyVariable)
}

// An API whose clock is ahead, whose parts are not well, and which has a job with dead letters.
func TestDoctorAsksTheAPI(t *testing.T) {
	answers := map[string]string{
		"/client/v4/system/health": `{"success":true,"result":{"state":"down","at":"` + time.Now().Add(time.Minute).Format(time.RFC3339Nano) + `","version":"v9","parts":[
			{"kind":"kafka","name":"Kafka","state":"ok","sentence":"It answers."},
			{"kind":"router","name":"r1","state":"degraded","sentence":"It serves an old snapshot.","advice":"Look."},
			{"kind":"ingest","name":"Ingest","state":"down","sentence":"It lags.","advice":"See."},
			{"kind":"logpush","name":"Logpush","state":"unknown","sentence":"Nobody knows.","advice":"Wait."}]}}`,
		"/client/v4/accounts":                   `{"success":true,"result":[{"id":"a1","name":"a"}],"result_info":{"page":1,"per_page":20,"count":1,"total_count":1}}`,
		"/client/v4/accounts/a1/logpush/health": `{"success":true,"result":[{"job_id":7,"name":"j","state":"ok","dead_letters":3}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}`)
			return
		}
		_, _ = io.WriteString(w, answers[r.URL.Path])
	}))
	c := DoctorConfig{API: server.URL, Token: "wrong"}
	says(t, c.controlPlane(t.Context())[0], JudgedFault, "refuses the token")
	c.Token = ""
	says(t, c.controlPlane(t.Context())[0], JudgedUnknown, "without a token")
	c.Token = "good"
	list := c.controlPlane(t.Context())
	says(t, one(t, list, "api"), JudgedOK, "version v9")
	says(t, one(t, list, "api clock"), JudgedFault, "ahead")
	says(t, one(t, list, "seen by the api: kafka"), JudgedOK, "It answers.")
	says(t, one(t, list, "seen by the api: router r1"), JudgedWarning, "old snapshot")
	says(t, one(t, list, "seen by the api: ingest"), JudgedFault, "It lags.")
	says(t, one(t, list, "seen by the api: logpush"), JudgedUnknown, "Nobody knows.")
	says(t, one(t, list, "dead letters"), JudgedWarning, "Job 7 of account a1 has 3 that wait")
	server.Close()
	says(t, c.controlPlane(t.Context())[0], JudgedFault, "does not answer")
	c.API = ""
	says(t, c.controlPlane(t.Context())[0], JudgedUnknown, "no setting names one")
}

// Whatever is down, the answer comes, and is about everything.
func TestDoctorWithNothingThere(t *testing.T) {
	c, f := settingsFlags(t, "kafka: [\"127.0.0.1:1\"]\nclickhouse: http://127.0.0.1:1\napi-token-file: /no/such/token\n", AllRoles...)
	if err := ReadSettings(f); err != nil {
		t.Fatal(err)
	}
	c.DataDir = t.TempDir()
	list := Doctor(context.WithoutCancel(t.Context()), DoctorConfig{Config: *c, Flags: f, API: "http://127.0.0.1:1"})
	for _, check := range []string{"kafka", "clickhouse", "api", "files"} {
		says(t, one(t, list, check), JudgedFault, "")
	}
}
