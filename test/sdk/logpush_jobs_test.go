package sdk

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	cloudflare "github.com/cloudflare/cloudflare-go/v7"
	"github.com/cloudflare/cloudflare-go/v7/logpush"
	"github.com/cloudflare/cloudflare-go/v7/workers"
	"github.com/cloudflare/cloudflare-go/v7/zones"
)

const noSuchJob = 999_999_999

// folder is a destination that a test has to itself.
func folder(t *testing.T) string {
	return "file://" + os.Getenv("TIDEGATE_TEST_FOLDER") + "/" + t.Name()
}

// TestLogpushJobs makes, reads, lists, changes and deletes a job. What a change does
// not name stays; output options are replaced as a whole.
func TestLogpushJobs(t *testing.T) {
	s := open(t)
	account, jobs := cloudflare.F(s.account), s.Logpush.Jobs
	const filter = `{"where":{"key":"Outcome","operator":"!eq","value":"ok"}}`
	made, err := jobs.New(t.Context(), logpush.JobNewParams{
		AccountID: account, Name: cloudflare.F("sdk"), Dataset: cloudflare.F(logpush.JobNewParamsDatasetWorkersTraceEvents),
		DestinationConf: cloudflare.F(folder(t)), Filter: cloudflare.F(filter),
		OutputOptions: cloudflare.F(logpush.OutputOptionsParam{
			FieldNames: cloudflare.F([]string{"Event", "ScriptName", "ScriptVersion"}), SampleRate: cloudflare.F(0.5),
			TimestampFormat: cloudflare.F(logpush.OutputOptionsTimestampFormatRfc3339),
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.ID == 0 || made.Enabled || made.Dataset != logpush.LogpushJobDatasetWorkersTraceEvents || made.Name != "sdk" ||
		made.DestinationConf != folder(t) || made.OutputOptions.SampleRate != 0.5 || !made.LastComplete.IsZero() || made.ErrorMessage != "" {
		t.Errorf("the new job is %s", made.JSON.RawJSON())
	}
	change := func(params logpush.JobUpdateParams) *logpush.LogpushJob {
		t.Helper()
		params.AccountID = account
		changed, err := jobs.Update(t.Context(), made.ID, params)
		if err != nil {
			t.Fatal(err)
		}
		read, err := jobs.Get(t.Context(), made.ID, logpush.JobGetParams{AccountID: account})
		if err != nil {
			t.Fatal(err)
		}
		if read.JSON.RawJSON() != changed.JSON.RawJSON() {
			t.Errorf("the change answers %s, the job then is %s", changed.JSON.RawJSON(), read.JSON.RawJSON())
		}
		return read
	}
	if job := change(logpush.JobUpdateParams{Enabled: cloudflare.F(true)}); !job.Enabled || job.Name != "sdk" || len(job.OutputOptions.FieldNames) != 3 || filterOf(t, job) != filter {
		t.Errorf("switched on, the job is %s", job.JSON.RawJSON())
	}
	if job := change(logpush.JobUpdateParams{OutputOptions: cloudflare.F(logpush.OutputOptionsParam{
		FieldNames: cloudflare.F([]string{"Outcome"}), OutputType: cloudflare.F(logpush.OutputOptionsOutputTypeCsv),
	})}); !slices.Equal(job.OutputOptions.FieldNames, []string{"Outcome"}) || job.OutputOptions.OutputType != logpush.OutputOptionsOutputTypeCsv ||
		job.OutputOptions.SampleRate == 0.5 || job.OutputOptions.TimestampFormat == logpush.OutputOptionsTimestampFormatRfc3339 || !job.Enabled {
		t.Errorf("with other output options, the job is %s", job.JSON.RawJSON())
	}
	if job := change(logpush.JobUpdateParams{Filter: cloudflare.F("")}); filterOf(t, job) != "" || !job.Enabled {
		t.Errorf("without its filter, the job is %s", job.JSON.RawJSON())
	}
	if job := change(logpush.JobUpdateParams{
		Enabled: cloudflare.F(false), Name: cloudflare.F("renamed"),
		MaxUploadBytes:           cloudflare.F(logpush.JobUpdateParamsMaxUploadBytes(5_000_000)),
		MaxUploadIntervalSeconds: cloudflare.F(logpush.JobUpdateParamsMaxUploadIntervalSeconds(60)),
		MaxUploadRecords:         cloudflare.F(logpush.JobUpdateParamsMaxUploadRecords(1000)),
	}); job.Enabled || job.Name != "renamed" || job.MaxUploadBytes != 5_000_000 || job.MaxUploadIntervalSeconds != 60 || job.MaxUploadRecords != 1000 {
		t.Errorf("switched off and bounded, the job is %s", job.JSON.RawJSON())
	}
	_, err = jobs.Update(t.Context(), made.ID, logpush.JobUpdateParams{AccountID: account,
		OutputOptions: cloudflare.F(logpush.OutputOptionsParam{FieldNames: cloudflare.F([]string{"NoSuchField"})})})
	wantCode(t, err, 403, 1004)

	if !s.listsJob(t, made.ID) {
		t.Errorf("job %d is not listed", made.ID)
	}
	removed, err := jobs.Delete(t.Context(), made.ID, logpush.JobDeleteParams{AccountID: account})
	if err != nil {
		t.Fatal(err)
	}
	if removed.ID != made.ID || s.listsJob(t, made.ID) {
		t.Errorf("the deletion of job %d answers %s", made.ID, removed.JSON.RawJSON())
	}
	_, err = jobs.Get(t.Context(), made.ID, logpush.JobGetParams{AccountID: account})
	wantCode(t, err, 404, 1002)
}

// filterOf reads what the SDK's job has no member for.
func filterOf(t *testing.T, job *logpush.LogpushJob) string {
	t.Helper()
	var body struct {
		Filter *string `json:"filter"`
	}
	if err := json.Unmarshal([]byte(job.JSON.RawJSON()), &body); err != nil {
		t.Fatal(err)
	}
	if body.Filter == nil {
		return ""
	}
	return *body.Filter
}

// listsJob tells whether the account's list and that of the dataset have the job,
// which must agree.
func (s session) listsJob(t *testing.T, id int64) bool {
	t.Helper()
	var listed, ofDataset bool
	all := s.Logpush.Jobs.ListAutoPaging(t.Context(), logpush.JobListParams{AccountID: cloudflare.F(s.account)})
	for all.Next() {
		listed = listed || all.Current().ID == id
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	some := s.Logpush.Datasets.Jobs.GetAutoPaging(t.Context(), logpush.DatasetJobGetParamsDatasetIDWorkersTraceEvents,
		logpush.DatasetJobGetParams{AccountID: cloudflare.F(s.account)})
	for some.Next() {
		ofDataset = ofDataset || some.Current().ID == id
	}
	if err := some.Err(); err != nil {
		t.Fatal(err)
	}
	if listed != ofDataset {
		t.Errorf("job %d is in the account's list: %t, in the dataset's: %t", id, listed, ofDataset)
	}
	return listed
}

// TestUnknownLogpushJobs expects 404 of everything that names a job or a dataset.
func TestUnknownLogpushJobs(t *testing.T) {
	s := open(t)
	account := cloudflare.F(s.account)
	_, err := s.Logpush.Jobs.Get(t.Context(), noSuchJob, logpush.JobGetParams{AccountID: account})
	wantCode(t, err, 404, 1002)
	_, err = s.Logpush.Jobs.Update(t.Context(), noSuchJob, logpush.JobUpdateParams{AccountID: account, Enabled: cloudflare.F(true)})
	wantCode(t, err, 404, 1002)
	_, err = s.Logpush.Jobs.Delete(t.Context(), noSuchJob, logpush.JobDeleteParams{AccountID: account})
	wantCode(t, err, 404, 1002)
	_, err = s.Logpush.Datasets.Jobs.Get(t.Context(), logpush.DatasetJobGetParamsDatasetIDHTTPRequests, logpush.DatasetJobGetParams{AccountID: account})
	wantCode(t, err, 404, 1002)
	_, err = s.Logpush.Datasets.Fields.Get(t.Context(), logpush.DatasetFieldGetParamsDatasetIDHTTPRequests, logpush.DatasetFieldGetParams{AccountID: account})
	wantCode(t, err, 404, 1002)
}

func TestLogpushFields(t *testing.T) {
	s := open(t)
	fields, err := s.Logpush.Datasets.Fields.Get(t.Context(), logpush.DatasetFieldGetParamsDatasetIDWorkersTraceEvents,
		logpush.DatasetFieldGetParams{AccountID: cloudflare.F(s.account)})
	if err != nil {
		t.Fatal(err)
	}
	described, ok := (*fields).(map[string]any)
	if text, _ := described["Outcome"].(string); !ok || !strings.Contains(text, "exception") {
		t.Errorf("the fields are %v", *fields)
	}
}

// TestLogpushQuestions asks what a form asks before it creates a job. Their answers
// are no errors, whatever they say.
func TestLogpushQuestions(t *testing.T) {
	s := open(t)
	account := cloudflare.F(s.account)
	ask := func(conf string) (valid bool, message string) {
		t.Helper()
		answer, err := s.Logpush.Validate.Destination(t.Context(), logpush.ValidateDestinationParams{AccountID: account, DestinationConf: cloudflare.F(conf)})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Valid, answer.Message
	}
	if valid, message := ask(folder(t)); !valid {
		t.Errorf("%s is not valid: %s", folder(t), message)
	}
	if valid, message := ask("file:///etc/sdk"); valid || message == "" {
		t.Errorf("a folder that is not the operator's: valid is %t, message is %q", valid, message)
	}
	exists := func() bool {
		t.Helper()
		answer, err := s.Logpush.Validate.DestinationExists(t.Context(), logpush.ValidateDestinationExistsParams{AccountID: account, DestinationConf: cloudflare.F(folder(t))})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Exists
	}
	if exists() {
		t.Errorf("a job with %s exists already", folder(t))
	}
	made, err := s.Logpush.Jobs.New(t.Context(), logpush.JobNewParams{AccountID: account,
		Dataset: cloudflare.F(logpush.JobNewParamsDatasetWorkersTraceEvents), DestinationConf: cloudflare.F(folder(t))})
	if err != nil {
		t.Fatal(err)
	}
	if !exists() {
		t.Errorf("no job with %s exists, but it is job %d's", folder(t), made.ID)
	}
	for options, want := range map[string]bool{"fields=Outcome,ScriptName&timestamps=rfc3339": true, "fields=NoSuchField": false} {
		origin, err := s.Logpush.Validate.Origin(t.Context(), logpush.ValidateOriginParams{AccountID: account, LogpullOptions: cloudflare.F(options)})
		if err != nil {
			t.Fatal(err)
		}
		if origin.Valid != want || (origin.Message == "") != want {
			t.Errorf("logpull_options %q: %s", options, origin.JSON.RawJSON())
		}
	}
}

// TestLogpushOwnership asks for a challenge where none is needed, and shows one that nobody made.
func TestLogpushOwnership(t *testing.T) {
	s := open(t)
	account, conf := cloudflare.F(s.account), cloudflare.F(folder(t))
	challenge, err := s.Logpush.Ownership.New(t.Context(), logpush.OwnershipNewParams{AccountID: account, DestinationConf: conf})
	if err != nil {
		t.Fatal(err)
	}
	if challenge.Valid || challenge.Filename != "" || !strings.Contains(challenge.Message, "needs no challenge") {
		t.Errorf("the challenge is %s", challenge.JSON.RawJSON())
	}
	shown, err := s.Logpush.Ownership.Validate(t.Context(), logpush.OwnershipValidateParams{AccountID: account, DestinationConf: conf,
		OwnershipChallenge: cloudflare.F("0000")})
	if err != nil {
		t.Fatal(err)
	}
	if shown.Valid {
		t.Errorf("a challenge that nobody made is %s", shown.JSON.RawJSON())
	}
}

// TestInstantLogs makes a session for the zone that a custom domain brings about, and
// finds that the zone has no jobs.
func TestInstantLogs(t *testing.T) {
	s := open(t)
	s.script = "sdk-instant"
	account := cloudflare.F(s.account)
	if _, err := s.Workers.Scripts.Update(t.Context(), s.script, workers.ScriptUpdateParams{AccountID: account}, upload(t, "v1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Workers.Domains.Update(t.Context(), workers.DomainUpdateParams{AccountID: account,
		Hostname: cloudflare.F("www.sdk-instant.example"), Service: cloudflare.F(s.script), ZoneName: cloudflare.F("sdk-instant.example")}); err != nil {
		t.Fatal(err)
	}
	found, err := s.Zones.List(t.Context(), zones.ZoneListParams{Name: cloudflare.F("sdk-instant.example")})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Result) != 1 {
		t.Fatalf("the zones are %v", found.Result)
	}
	zone := cloudflare.F(found.Result[0].ID)
	const filter = `{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`
	made, err := s.Logpush.Edge.New(t.Context(), logpush.EdgeNewParams{ZoneID: zone,
		Fields: cloudflare.F("Outcome,ScriptName"), Filter: cloudflare.F(filter), Sample: cloudflare.F[int64](10)})
	if err != nil {
		t.Fatal(err)
	}
	if made.SessionID == "" || !strings.HasPrefix(made.DestinationConf, "ws") || made.Fields != "Outcome,ScriptName" || made.Filter != filter || made.Sample != 10 {
		t.Errorf("the session is %s", made.JSON.RawJSON())
	}
	sessions, err := s.Logpush.Edge.Get(t.Context(), logpush.EdgeGetParams{ZoneID: zone})
	if err != nil {
		t.Fatal(err)
	}
	if len(sessions.Result) != 1 || sessions.Result[0].SessionID != made.SessionID {
		t.Errorf("the sessions are %s", sessions.JSON.RawJSON())
	}
	_, err = s.Logpush.Edge.New(t.Context(), logpush.EdgeNewParams{ZoneID: cloudflare.F(strings.Repeat("0", 32)), Fields: cloudflare.F("Outcome")})
	wantCode(t, err, 404, 1002)

	ofZone, err := s.Logpush.Jobs.List(t.Context(), logpush.JobListParams{ZoneID: zone})
	if err != nil {
		t.Fatal(err)
	}
	if len(ofZone.Result) != 0 {
		t.Errorf("the zone's jobs are %s", ofZone.JSON.RawJSON())
	}
	_, err = s.Logpush.Jobs.New(t.Context(), logpush.JobNewParams{ZoneID: zone, DestinationConf: cloudflare.F(folder(t)),
		Dataset: cloudflare.F(logpush.JobNewParamsDatasetWorkersTraceEvents)})
	wantCode(t, err, 400, 1002)
	if !strings.Contains(fmt.Sprint(err), "account") {
		t.Errorf("the refusal does not say where jobs go: %v", err)
	}
}
