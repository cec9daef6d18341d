package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// site is where a proxy is to run.
type site struct {
	Dir    string
	Port   int
	Origin string
	Bin    string
}

func (s site) write(name, text string) (string, error) {
	file := filepath.Join(s.Dir, name)
	text = strings.NewReplacer("{dir}", s.Dir, "{port}", fmt.Sprint(s.Port), "{origin}", s.Origin).Replace(text)
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// peers write their configuration and return the command. Each has 256 MiB of
// cache, one worker, an access log with a line for each request, and room for
// 9,000 clients; what the cache cannot keep in memory it may drop.
var peers = map[string]func(site) ([]string, error){
	"fwdproxy":      fwdproxy,
	"haproxy":       haproxy,
	"nginx":         nginx,
	"squid":         squid,
	"trafficserver": trafficServer,
	"varnish":       varnish,
}

func fwdproxy(s site) ([]string, error) {
	bin, err := filepath.Abs(s.Bin)
	if err != nil {
		return nil, err
	}
	file, err := s.write("policy.toml", `
[forward]
listen = ["127.0.0.1:{port}"]
[forward.tunnel]
ports = ["1-65535"]
[acl]
default = "deny"
private_destinations = "allow"
[[acl.rule]]
name = "this machine"
from = ["127.0.0.0/8"]
action = "allow"
[cache]
memory = "256MiB"
[limits]
connections = 16000
connections_per_client = 0
requests_per_connection = 0
[log]
access = "access.log"
`)
	return []string{bin, "serve", "--policy", file}, err
}

func haproxy(s site) ([]string, error) {
	file, err := s.write("haproxy.cfg", `
global
    nbthread 1
    log stdout len 1024 format raw local0
    tune.bufsize 16384
    tune.pipesize 1048576
defaults
    mode http
    log global
    option httplog
    timeout client 60s
    timeout server 60s
    timeout connect 5s
    http-reuse always
cache c
    total-max-size 256
    max-object-size 2000000
    max-age 3600
frontend f
    bind 127.0.0.1:{port}
    http-request cache-use c
    http-response cache-store c
    default_backend b
backend b
    server o {origin} maxconn 1000
`)
	return []string{"haproxy", "-f", file}, err
}

func nginx(s site) ([]string, error) {
	file, err := s.write("nginx.conf", `
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr;
user root;
events { worker_connections 16000; }
http {
    access_log {dir}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {dir}/t1;
    proxy_temp_path {dir}/t2;
    fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4;
    scgi_temp_path {dir}/t5;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=20000;
    keepalive_requests 1000000000;
    proxy_cache_path {dir}/cache levels=1:2 keys_zone=c:64m max_size=256m use_temp_path=off;
    upstream o { server {origin}; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:{port} backlog=1024;
        location / {
            proxy_pass http://o;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache c;
            proxy_cache_key $scheme$host$request_uri;
        }
    }
}
`)
	return []string{"nginx", "-p", s.Dir, "-c", file}, err
}

func squid(s site) ([]string, error) {
	file, err := s.write("squid.conf", `
http_port 127.0.0.1:{port}
http_access allow all
acl SSL_ports port 1-65535
cache_mem 256 MB
maximum_object_size_in_memory 4 MB
memory_replacement_policy heap GDSF
access_log stdio:{dir}/access.log
buffered_logs on
cache_log {dir}/cache.log
pid_filename none
coredump_dir {dir}
cache_effective_user proxy
max_filedescriptors 16000
shutdown_lifetime 0 seconds
pinger_enable off
netdb_filename none
memory_pools on
`)
	return []string{"squid", "-N", "-n", fmt.Sprintf("bench%d", s.Port), "-f", file}, err
}

func trafficServer(s site) ([]string, error) {
	for _, d := range []string{"etc", "run", "log", "cache"} {
		if err := os.Mkdir(filepath.Join(s.Dir, d), 0o777); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{
		"runroot.yaml": `
prefix: /usr
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/sbin
sysconfdir: {dir}/etc
datadir: {dir}/etc
includedir: /usr/include
libdir: /usr/lib
libexecdir: /usr/lib/trafficserver/modules
localstatedir: {dir}/run
runtimedir: {dir}/run
logdir: {dir}/log
cachedir: {dir}/cache
`,
		"etc/storage.config": "{dir}/cache 512M\n",
		"etc/logging.yaml": `
logging:
  formats:
    - name: squid
      format: '%<cqtq> %<ttms> %<chi> %<crc>/%<pssc> %<psql> %<cqhm> %<cquc> %<caun> %<phr>/%<shn> %<psct>'
  logs:
    - filename: access
      format: squid
`,
		"etc/records.config": `
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.url_remap.remap_required INT 0
CONFIG proxy.config.reverse_proxy.enabled INT 0
CONFIG proxy.config.exec_thread.autoconfig.enabled INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.cache.ram_cache.size INT 256M
CONFIG proxy.config.cache.ram_cache_cutoff INT 4M
CONFIG proxy.config.http.cache.required_headers INT 0
CONFIG proxy.config.http.connect_ports STRING 1-65535
CONFIG proxy.config.net.connections_throttle INT 16000
CONFIG proxy.config.net.max_connections_in INT 16000
CONFIG proxy.config.log.logging_enabled INT 3
CONFIG proxy.config.diags.output.note STRING L
CONFIG proxy.config.hostdb.host_file.path STRING /etc/hosts
`,
		"etc/ip_allow.yaml": "ip_allow:\n  - apply: in\n    ip_addrs: 0/0\n    action: allow\n    methods: ALL\n",
		"etc/remap.config":  "", "etc/parent.config": "", "etc/plugin.config": "", "etc/cache.config": "", "etc/hosting.config": "",
		"etc/volume.config": "", "etc/splitdns.config": "", "etc/ssl_multicert.config": "", "etc/sni.yaml": "", "etc/strategies.yaml": "",
	} {
		if _, err := s.write(name, text); err != nil {
			return nil, err
		}
	}
	return []string{"traffic_server", "--run-root=" + s.Dir}, nil
}

func varnish(s site) ([]string, error) {
	file, err := s.write("default.vcl", `vcl 4.1;
backend o { .host = "`+host(s.Origin)+`"; .port = "`+port(s.Origin)+`"; }
`)
	return []string{"varnishd", "-F", "-n", filepath.Join(s.Dir, "work"), "-a", fmt.Sprintf("127.0.0.1:%d", s.Port), "-f", file,
		"-s", "malloc,256m", "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=2000", "-p", "timeout_idle=60"}, err
}

func host(addr string) string { return addr[:strings.LastIndexByte(addr, ':')] }
func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
