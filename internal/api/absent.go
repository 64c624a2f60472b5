package api

import "strings"

// absent are products of Cloudflare's API that clients ask for beside Workers and
// that Tidegate does not have yet, by a part of their endpoints' paths. What it has
// below such a path is found before these.
var absent = []struct{ part, product string }{
	{"/assets-upload-session", "static assets"},
	{"/workers/assets/", "static assets"},
	{"/storage/kv/", "KV"},
	{"/r2/", "R2"},
	{"/d1/", "D1"},
	{"/queues", "Queues"},
	{"/workflows", "Workflows"},
	{"/hyperdrive/", "Hyperdrive"},
	{"/vectorize/", "Vectorize"},
	{"/ai/", "Workers AI"},
	{"/containers/", "containers"},
	{"/pages/", "Pages"},
	{"/workers/dispatch/", "Workers for Platforms"},
	{"/secrets_store/", "the Secrets Store"},
	{"/pipelines", "Pipelines"},
}

// absentProduct names the product that a path belongs to, "" if none is known.
func absentProduct(path string) string {
	for _, a := range absent {
		if strings.Contains(path+"/", a.part) {
			return a.product
		}
	}
	return ""
}
