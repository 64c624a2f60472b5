package sdk

import (
	"errors"
	"slices"
	"strings"
	"testing"

	v0 "github.com/cloudflare/cloudflare-go"
)

// TestLogpushThroughV0 is the life of a job through the SDK before it was generated,
// which Terraform's provider up to version 4 stands on. A filter that a change does not send stays.
func TestLogpushThroughV0(t *testing.T) {
	s := open(t)
	client, err := v0.NewWithAPIToken(s.token, v0.BaseURL(strings.TrimSuffix(s.baseURL, "/")))
	if err != nil {
		t.Fatal(err)
	}
	account := v0.AccountIdentifier(s.account)
	const dataset = "workers_trace_events"
	made, err := client.CreateLogpushJob(t.Context(), account, v0.CreateLogpushJobParams{
		Dataset: dataset, Name: "v0", DestinationConf: folder(t), Enabled: true,
		OutputOptions: &v0.LogpushOutputOptions{FieldNames: []string{"Outcome", "ScriptName"}, SampleRate: 0.5},
		Filter: &v0.LogpushJobFilters{Where: v0.LogpushJobFilter{And: []v0.LogpushJobFilter{
			{Key: "Outcome", Operator: v0.NotEqual, Value: "ok"}, {Key: "ScriptName", Operator: v0.ValueIsIn, Value: []string{"shop", "blog"}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.ID == 0 || !made.Enabled || made.Filter == nil || len(made.Filter.Where.And) != 2 || made.OutputOptions == nil || made.OutputOptions.SampleRate != 0.5 {
		t.Errorf("the new job is %+v", made)
	}
	if err := client.UpdateLogpushJob(t.Context(), account, v0.UpdateLogpushJobParams{
		ID: made.ID, Dataset: dataset, Name: "v0-changed", DestinationConf: made.DestinationConf,
		OutputOptions: &v0.LogpushOutputOptions{FieldNames: []string{"Event"}}, MaxUploadRecords: 1000,
	}); err != nil {
		t.Fatal(err)
	}
	read, err := client.GetLogpushJob(t.Context(), account, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	if read.Enabled || read.Name != "v0-changed" || read.MaxUploadRecords != 1000 || read.Filter == nil || read.OutputOptions == nil || !slices.Equal(read.OutputOptions.FieldNames, []string{"Event"}) {
		t.Errorf("the changed job is %+v", read)
	}
	all, err := client.ListLogpushJobs(t.Context(), account, v0.ListLogpushJobsParams{})
	if err != nil {
		t.Fatal(err)
	}
	some, err := client.ListLogpushJobsForDataset(t.Context(), account, v0.ListLogpushJobsForDatasetParams{Dataset: dataset})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]v0.LogpushJob{all, some} {
		if !slices.ContainsFunc(list, func(j v0.LogpushJob) bool { return j.ID == made.ID }) {
			t.Errorf("job %d is not in %+v", made.ID, list)
		}
	}
	fields, err := client.GetLogpushFields(t.Context(), account, v0.GetLogpushFieldsParams{Dataset: dataset})
	if err != nil || fields["Outcome"] == "" {
		t.Errorf("the fields are %v, %v", fields, err)
	}
	if exists, err := client.CheckLogpushDestinationExists(t.Context(), account, folder(t)); err != nil || !exists {
		t.Errorf("the destination exists: %t, %v", exists, err)
	}
	if _, err := client.GetLogpushOwnershipChallenge(t.Context(), account, v0.GetLogpushOwnershipChallengeParams{DestinationConf: folder(t)}); err == nil ||
		!strings.Contains(err.Error(), "needs no challenge") {
		t.Errorf("a challenge for a folder: %v", err)
	}
	if valid, err := client.ValidateLogpushOwnershipChallenge(t.Context(), account, v0.ValidateLogpushOwnershipChallengeParams{
		DestinationConf: folder(t), OwnershipChallenge: "0000"}); err != nil || valid {
		t.Errorf("a challenge that nobody made is valid: %t, %v", valid, err)
	}
	if err := client.DeleteLogpushJob(t.Context(), account, made.ID); err != nil {
		t.Fatal(err)
	}
	_, err = client.GetLogpushJob(t.Context(), account, made.ID)
	if failure, ok := errors.AsType[*v0.NotFoundError](err); !ok || !failure.InternalErrorCodeIs(1002) {
		t.Errorf("the deleted job: %v, not a NotFoundError with code 1002", err)
	}
}
