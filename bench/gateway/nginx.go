package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
)

// startNginx starts the peer with the same split, a request id in every request, and a JSON
// line for each in a file, which tells about what a trace event does. Its second address
// speaks HTTP/2 without TLS.
func startNginx(ctx context.Context, binary, dir, first, second string) (c *child, h2 string, err error) {
	addr, err := freePort(ctx)
	if err != nil {
		return nil, "", err
	}
	if h2, err = freePort(ctx); err != nil {
		return nil, "", err
	}
	dir = filepath.Join(dir, "nginx")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // or the workers could not use the folder
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, runtime.NumCPU(), addr, h2, first, second, user), 0o600); err != nil {
		return nil, "", err
	}
	c, err = startPeer(ctx, addr, nil, binary, "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	return c, h2, err
}

const nginxConfig = `daemon off;
worker_processes %[2]d;
worker_rlimit_nofile 20000;
%[7]s
pid %[1]s/pid;
error_log %[1]s/error.log warn;
events { worker_connections 19000; }
http {
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	log_format event escape=json '{"EventTimestampMs":"$msec","Event":{"RayID":"$request_id","Request":{"URL":"$scheme://$host$request_uri","Method":"$request_method",'
		'"Headers":{"referer":"$http_referer","user-agent":"$http_user_agent"}},"Response":{"Status":$status}},'
		'"ScriptName":"$host","ScriptVersion":"$version","WallTimeMs":"$request_time","UpstreamMs":"$upstream_header_time"}';
	access_log %[1]s/access.log event buffer=64k flush=1s;
	keepalive_requests 1000000000;
	keepalive_timeout 120s;
	split_clients $request_id $version {
		90%% v1;
		*   v2;
	}
	upstream v1 { server %[5]s; keepalive 256; keepalive_requests 1000000000; }
	upstream v2 { server %[6]s; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen %[3]s backlog=16384;
		listen %[4]s http2;
		location / {
			proxy_pass http://$version;
			proxy_http_version 1.1;
			proxy_max_temp_file_size 0;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $http_host;
			proxy_set_header X-Request-Id $request_id;
			add_header X-Request-Id $request_id;
		}
	}
}
`

// startHAProxy starts the peer with the same split and no log, which it would send to a
// server for logs.
func startHAProxy(ctx context.Context, binary, dir, first, second string) (*child, error) {
	addr, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, haproxyConfig, port, first, second), 0o600); err != nil {
		return nil, err
	}
	return startPeer(ctx, addr, nil, binary, "-db", "-q", "-f", file)
}

const haproxyConfig = `global
	maxconn 4000
defaults
	mode http
	timeout connect 5s
	timeout client 120s
	timeout server 30s
	http-reuse always
	option forwardfor
listen bench
	bind 127.0.0.1:%[1]s
	unique-id-format %%[uuid()]
	unique-id-header X-Request-Id
	balance random
	server v1 %[2]s weight 90
	server v2 %[3]s weight 10
`
