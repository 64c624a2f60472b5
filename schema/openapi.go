package schema

import _ "embed" // for OpenAPI

// OpenAPI is the contract of the HTTP API, as it is served at /openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte
