package bucket

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"tidegate/pipeline/logpush/sink/egress"
)

func refused(t *testing.T, conf, want string) {
	t.Helper()
	u, err := url.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(u, local)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s gave %v, want an error with %q", conf, err, want)
	}
	if err != nil && strings.Contains(err.Error(), "c2lnbmF0dXJl") {
		t.Errorf("the error has a secret in it: %v", err)
	}
}

func TestRefusedGoogleDestinations(t *testing.T) {
	encoded := func(text string) string {
		return url.QueryEscape("base64:" + base64.StdEncoding.EncodeToString([]byte(text)))
	}
	refused(t, "gs://b/p", "ownership challenge")
	refused(t, "gs:///p?credentials="+url.QueryEscape(googleKey()), "bucket is missing")
	refused(t, "gs://b/p?credentials=url:https://h/key", "base64:")
	refused(t, "gs://b/p?credentials=base64:c2lnbmF0dXJl*", "not base64")
	refused(t, "gs://b/p?credentials="+encoded("c2lnbmF0dXJl"), "service_account")
	refused(t, "gs://b/p?credentials="+encoded(`{"type":"external_account","credential_source":{"file":"/etc/passwd"}}`), "service_account")
	refused(t, "gs://b/p?credentials="+encoded(`{"type":"service_account","private_key":"c2lnbmF0dXJl"}`), "private key")
	refused(t, "gs://b/{MINUTE}?credentials="+url.QueryEscape(googleKey()), "{MINUTE}")
	refused(t, "gs://b/p?project=x&credentials="+url.QueryEscape(googleKey()), `"project"`)
	refused(t, "gs://b/p?endpoint=ftp://h", "endpoint")
}

func TestRefusedAzureDestinations(t *testing.T) {
	good, err := url.ParseQuery(signature)
	if err != nil {
		t.Fatal(err)
	}
	const at = "azure://account.blob.core.windows.net/logs/p?"
	open(t, at+signature, local)
	with := func(name, value string) string { return at + copyOf(good, name, value).Encode() }
	refused(t, with("srt", "sco"), "signedResourceTypes must be Object only (srt=o)")
	refused(t, with("srt", ""), "signedResourceTypes must be Object only (srt=o)")
	refused(t, with("ss", "bf"), "Blob only (ss=b)")
	refused(t, with("sp", "rl"), "Write (sp=w)")
	refused(t, with("se", "2020-01-01T00:00:00Z"), "expired at 2020")
	refused(t, with("se", "soon"), "signedExpiry")
	refused(t, with("sig", ""), "sig")
	refused(t, with("sr", "b"), "sr=c")
	refused(t, with("comp", "list"), `"comp"`)
	refused(t, with("restype", "container"), `"restype"`)
	refused(t, "azure://logs/p?"+signature, "storage account is missing")
	refused(t, "azure://account.blob.core.windows.net/?"+signature, "name of a container")
	refused(t, "azure://account.blob.core.windows.net/{DATE}/p?"+signature, "name of a container")
	refused(t, at+signature+"&endpoint=u:p@h", "endpoint must be a host")
}

func TestASignatureForOneContainerIsTaken(t *testing.T) {
	open(t, "azure://account.blob.core.windows.net/logs?sv=2024-11-04&sr=c&sp=cw&se=2099-01-01&sig=c2lnbmF0dXJl", local)
	open(t, "azure://account.blob.core.windows.net/logs?sv=2024-11-04&sr=c&si=policy&sig=c2lnbmF0dXJl", local)
}

// A + that a person did not write as %2B is a space when it arrives.
func TestCredentialsMayHoldBarePlusSigns(t *testing.T) {
	open(t, "gs://b/p?credentials="+googleKey(), local)
}

// The story to prevent: a user names an endpoint of theirs, and gets a token of the operator's.
func TestTheOperatorsOwnCredentialsGoToGoogleOnly(t *testing.T) {
	login, err := googleLogin("", true, true)
	if login != nil || err != nil {
		t.Errorf("the login at another endpoint is %v, %v", login, err)
	}
	if _, err := googleLogin("", false, false); err == nil {
		t.Error("the operator's credentials are used without leave")
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/secret-place.json")
	e := putError(t, open(t, "gs://b/p", Options{GoogleAmbient: true}))
	if e.Status != 401 || e.Permanent || strings.Contains(e.Text, "secret-place") {
		t.Errorf("without credentials to be found it gave %+v", e)
	}
}

// Whatever a user writes, New does not panic, and no error has the secret in it.
func FuzzNew(f *testing.F) {
	f.Add("azure://account.blob.core.windows.net/logs/p?" + signature)
	f.Add("gs://b/p?credentials=base64:c2lnbmF0dXJl&endpoint=h")
	f.Add("s3://b/{DATE}?region=r&access-key-id=k&secret-access-key=c2lnbmF0dXJl&sse=AES256&endpoint=http://h:1/p")
	f.Add("r2://b?account-id=0a&access-key-id=k&secret-access-key=s")
	f.Fuzz(func(t *testing.T, conf string) {
		u, err := url.Parse(conf)
		if err != nil {
			return
		}
		const secret = "S3cr3tThatNothingElseHas"
		query := u.Query()
		for _, name := range []string{"sig", "secret-access-key", "credentials"} {
			if query.Has(name) {
				query.Set(name, secret)
			}
		}
		u.User, u.RawQuery = nil, query.Encode()
		if _, err = New(u, Options{Egress: egress.Policy{}}); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error has a secret in it: %v", err)
		}
	})
}
