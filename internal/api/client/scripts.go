package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"tidegate/internal/deploy"
)

type scriptWire struct {
	ID         string      `json:"id"`
	Tag        string      `json:"tag"`
	CreatedOn  time.Time   `json:"created_on"`
	ModifiedOn time.Time   `json:"modified_on"`
	Logpush    bool        `json:"logpush"`
	Tags       []string    `json:"tags"`
	Routes     []routeWire `json:"routes"`
}

type routeWire struct {
	Pattern string `json:"pattern"`
}

func patterns(routes []routeWire) []string {
	list := make([]string, len(routes))
	for i, r := range routes {
		list[i] = r.Pattern
	}
	return list
}

// Scripts returns the scripts of an account.
func (c *Client) Scripts(ctx context.Context, accountID string) ([]deploy.Script, error) {
	wires, err := get[[]scriptWire](ctx, c, accountPath(accountID, "workers", "scripts"))
	list := make([]deploy.Script, len(wires))
	for i, w := range wires {
		list[i] = deploy.Script{
			AccountID: accountID, Name: w.ID, Tag: w.Tag, CreatedOn: w.CreatedOn, ModifiedOn: w.ModifiedOn,
			Logpush: deploy.LogpushOf(w.Logpush), Tags: w.Tags, Routes: patterns(w.Routes),
		}
	}
	return list, err
}

// DeleteScript removes a script with all that belongs to it.
func (c *Client) DeleteScript(ctx context.Context, accountID, script string) error {
	return c.delete(ctx, scriptPath(accountID, script))
}

// Tags returns the tags of a script.
func (c *Client) Tags(ctx context.Context, accountID, script string) ([]string, error) {
	w, err := get[scriptWire](ctx, c, scriptPath(accountID, script, "script-settings"))
	return w.Tags, err
}

// SetTags replaces the tags of a script.
func (c *Client) SetTags(ctx context.Context, accountID, script string, tags []string) error {
	_, err := c.call(ctx, http.MethodPatch, scriptPath(accountID, script, "script-settings"), map[string]any{"tags": append([]string{}, tags...)}, nil)
	return err
}

// Routes returns the route patterns of a script.
func (c *Client) Routes(ctx context.Context, accountID, script string) ([]string, error) {
	routes, err := get[[]routeWire](ctx, c, scriptPath(accountID, script, "routes"))
	return patterns(routes), err
}

// SetRoutes replaces the routes of a script.
func (c *Client) SetRoutes(ctx context.Context, accountID, script string, list []string) error {
	body := make([]routeWire, len(list))
	for i, pattern := range list {
		body[i] = routeWire{pattern}
	}
	_, err := c.call(ctx, http.MethodPut, scriptPath(accountID, script, "routes"), body, nil)
	return err
}

type versionWire struct {
	ID       string `json:"id"`
	Number   int64  `json:"number"`
	Metadata struct {
		CreatedOn   time.Time      `json:"created_on"`
		Source      string         `json:"source"`
		AuthorID    string         `json:"author_id"`
		AuthorEmail string         `json:"author_email"`
		Origin      *deploy.Origin `json:"origin"`
	} `json:"metadata"`
	Annotations deploy.Annotations `json:"annotations"`
}

func (w versionWire) version() deploy.Version {
	return deploy.Version{
		ID: w.ID, Number: w.Number, CreatedOn: w.Metadata.CreatedOn, Source: w.Metadata.Source,
		AuthorID: w.Metadata.AuthorID, AuthorEmail: w.Metadata.AuthorEmail,
		Annotations: w.Annotations, Origin: w.Metadata.Origin,
	}
}

// CreateVersion uploads an origin version with the origin and annotations of v;
// the script is made if it is missing.
func (c *Client) CreateVersion(ctx context.Context, accountID, script string, v deploy.Version) (deploy.Version, error) {
	return c.uploadOrigin(ctx, accountID, script, v.Origin, v.Annotations)
}

// UploadOrigin is CreateVersion of an origin as the API has it, in JSON, which completes
// what it leaves out.
func (c *Client) UploadOrigin(ctx context.Context, accountID, script string, origin json.RawMessage, said deploy.Annotations) (deploy.Version, error) {
	return c.uploadOrigin(ctx, accountID, script, origin, said)
}

func (c *Client) uploadOrigin(ctx context.Context, accountID, script string, origin any, said deploy.Annotations) (deploy.Version, error) {
	body := map[string]any{"metadata": map[string]any{"origin": origin, "annotations": said}}
	w, err := send[versionWire](ctx, c, http.MethodPost, scriptPath(accountID, script, "versions"), body)
	return w.version(), err
}

// Versions returns at most perPage (1 to 100) versions of a page (from 1), newest
// first, and how many there are in all.
func (c *Client) Versions(ctx context.Context, accountID, script string, page, perPage int) ([]deploy.Version, int, error) {
	return c.versions(ctx, scriptPath(accountID, script, "versions")+"?page="+strconv.Itoa(page)+"&per_page="+strconv.Itoa(perPage))
}

// DeployableVersions returns the versions that may be deployed, newest first.
func (c *Client) DeployableVersions(ctx context.Context, accountID, script string) ([]deploy.Version, error) {
	list, _, err := c.versions(ctx, scriptPath(accountID, script, "versions")+"?deployable=true")
	return list, err
}

func (c *Client) versions(ctx context.Context, path string) ([]deploy.Version, int, error) {
	var result struct {
		Items []versionWire `json:"items"`
	}
	total, err := c.call(ctx, http.MethodGet, path, nil, &result)
	list := make([]deploy.Version, len(result.Items))
	for i, w := range result.Items {
		list[i] = w.version()
	}
	return list, total, err
}

// Version returns one version.
func (c *Client) Version(ctx context.Context, accountID, script, id string) (deploy.Version, error) {
	w, err := get[versionWire](ctx, c, scriptPath(accountID, script, "versions", id))
	return w.version(), err
}

// Deploy replaces the split of traffic; message may be empty.
func (c *Client) Deploy(ctx context.Context, accountID, script string, splits []deploy.Split, message string) (deploy.Deployment, error) {
	body := map[string]any{
		"strategy": "percentage", "versions": splits,
		"annotations": map[string]string{"workers/message": message},
	}
	return send[deploy.Deployment](ctx, c, http.MethodPost, scriptPath(accountID, script, "deployments"), body)
}

// Deployments returns the newest deployments, newest first: the first one serves.
func (c *Client) Deployments(ctx context.Context, accountID, script string) ([]deploy.Deployment, error) {
	result, err := get[struct {
		Deployments []deploy.Deployment `json:"deployments"`
	}](ctx, c, scriptPath(accountID, script, "deployments"))
	return result.Deployments, err
}

// DeploymentStatus is a deployment with what routers say of its versions: the newest
// word of each router, if it has said any.
type DeploymentStatus struct {
	deploy.Deployment
	VersionStatus []deploy.VersionReport `json:"version_status"` // without account and script
}

// Deployment returns one deployment.
func (c *Client) Deployment(ctx context.Context, accountID, script, id string) (DeploymentStatus, error) {
	return get[DeploymentStatus](ctx, c, scriptPath(accountID, script, "deployments", id))
}

// DeleteDeployment removes a past deployment.
func (c *Client) DeleteDeployment(ctx context.Context, accountID, script, id string) error {
	return c.delete(ctx, scriptPath(accountID, script, "deployments", id))
}

// Snapshot returns what the gateways of an account serve from. It waits up to 30 s
// for something newer than revision after; the same revision means that there was
// nothing.
func (c *Client) Snapshot(ctx context.Context, accountID string, after int64) (*deploy.Snapshot, error) {
	return c.snapshot(ctx, accountPath(accountID, "routing", "snapshot"), after)
}

// SnapshotAll is Snapshot of every account; it needs the operator's token or a router's.
func (c *Client) SnapshotAll(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	return c.snapshot(ctx, "/routing/snapshot", after)
}

func (c *Client) snapshot(ctx context.Context, path string, after int64) (*deploy.Snapshot, error) {
	return get[*deploy.Snapshot](ctx, c, path+"?after="+strconv.FormatInt(after, 10))
}
