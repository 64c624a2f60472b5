#!/usr/bin/env bash
# Run the contract suites on real services: Apache Kafka, PostgreSQL, servers of S3,
# Google Cloud Storage, Azure Blob Storage and Kinesis, rsyslog, and receivers of the
# OpenTelemetry collector, each started here on a free port of the loopback interface and
# stopped at the end. A service that cannot be had fails the run.
#
# A suite takes part by reading one of these variables in a _test.go file, or by importing
# test/real/kafka there:
#   TIDEGATE_TEST_KAFKA     brokers, host:port, in clear text; TIDEGATE_TEST_KAFKA_ACCESS is a
#                           file about the same, with logins and certificates for its TLS
#                           listeners, and TIDEGATE_TEST_KAFKA_CLUSTER names the jars by which
#                           a test starts a cluster of its own: test/real/kafka
#   TIDEGATE_TEST_POSTGRES  a database in which tests may make schemas, postgres://...;
#                           TIDEGATE_TEST_POSTGRES_TLS is an empty one of a user who is let in
#                           by TLS and with a password alone, whose files its address names
#   TIDEGATE_TEST_S3        a server in which tests may make buckets, http://key:secret@host:port
#   TIDEGATE_TEST_GCS       the same of Google Cloud Storage, http://host:port
#   TIDEGATE_TEST_AZURE     the same of Azure, http://account:key@host:port
#   TIDEGATE_TEST_KINESIS   a server in which tests may make streams, http://host:port
#   TIDEGATE_TEST_SYSLOG    a receiver by TCP, and the file that it writes to, host:port,file
#   TIDEGATE_TEST_COLLECTOR the receivers of test/collector, http://host:port
# Arguments go to `go test`, such as -run or -v. TIDEGATE_REAL names the services to
# start, if not all: TIDEGATE_REAL=s3,gcs.
set -euo pipefail
cd "$(dirname "$0")/../.."

VERSITYGW=github.com/versity/versitygw/cmd/versitygw@v1.8.0
FAKE_GCS=github.com/fsouza/fake-gcs-server@v1.56.1
cache=$PWD/bin/real # what was installed here stays until `make clean`
work=$(mktemp -d)
chmod 755 "$work" # PostgreSQL runs as a user of its own
pids=()
names=()

fail() {
  echo "test-real: $*" >&2
  exit 1
}

running() { kill -0 "$1" 2>/dev/null; }

# Stop what was started, by its process id, newest first.
cleanup() {
  local status=$? i tries
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true
    for ((tries = 0; tries < 100; tries++)); do
      running "${pids[i]}" || break
      sleep 0.1
    done
    kill -KILL "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
    if ((status != 0)); then
      printf '\n== last lines of %s\n' "${names[i]}" >&2
      tail -n 20 "$work/${names[i]}.log" >&2 || true
    fi
  done
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT

# Below the range from which the kernel takes the ports of outgoing connections.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

start() { # name, command...
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 </dev/null &
  pids+=($!)
  names+=("$name")
}

# Wait until the newest service lets a command succeed.
await() { # command...
  local pid=${pids[-1]} name=${names[-1]} tries
  for ((tries = 0; tries < 300; tries++)); do
    if "$@" >/dev/null 2>&1; then
      echo "test-real: $name is up"
      return
    fi
    running "$pid" || fail "$name ended before it was ready"
    sleep 0.2
  done
  fail "$name is not ready after 60 s"
}

accepts() { # port
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

install_packages() { # Debian packages...
  ((EUID == 0)) || fail "needs the packages $*: install them, or run as root"
  echo "test-real: installing $*"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

start_kafka() {
  command -v mvn >/dev/null && command -v java >/dev/null || install_packages maven default-jre-headless
  local stamp
  stamp=$cache/kafka/$(cksum <test/real/kafka/pom.xml | cut -d ' ' -f 1)
  if [[ ! -e $stamp ]]; then
    rm -rf "$cache/kafka"
    mvn -q -B -f test/real/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/kafka"
    touch "$stamp"
  fi
  # One broker for all suites; those that take brokers away start a cluster of their own.
  local port
  port=$(free_port)
  mkdir "$work/kafka"
  go build -o "$cache/kafka-serve" ./test/real/kafka/serve
  start kafka "$cache/kafka-serve" -jars "$cache/kafka" -dir "$work/kafka" -port "$port" -access "$work/kafka.json"
  await test -e "$work/kafka.json"
  export TIDEGATE_TEST_KAFKA=127.0.0.1:$port TIDEGATE_TEST_KAFKA_ACCESS=$work/kafka.json TIDEGATE_TEST_KAFKA_CLUSTER=$cache/kafka
}

# PostgreSQL's programs, which Debian keeps outside PATH.
postgres_bin() {
  local newest
  newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
  [[ -x $newest ]] && dirname "$newest"
}

start_postgres() {
  local bin port as=()
  if ! bin=$(postgres_bin); then
    install_packages postgresql-common
    echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
    install_packages postgresql
    bin=$(postgres_bin) || fail "the package postgresql holds no server"
  fi
  # The server refuses to run as root.
  ((EUID != 0)) || as=(setpriv --reuid postgres --regid postgres --init-groups --)
  install -d -m 700 "$work/postgres"
  ((EUID != 0)) || chown postgres "$work/postgres"
  port=$(free_port)
  (cd / && ${as[@]+"${as[@]}"} "$bin/initdb" -D "$work/postgres" -U tidegate --auth=trust -E UTF8 --locale=C >/dev/null)
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=postgres -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/postgres/server.key" -out "$work/postgres.crt" 2>/dev/null
  cp "$work/postgres.crt" "$work/postgres/server.crt"
  chmod 600 "$work/postgres/server.key"
  ((EUID != 0)) || chown postgres "$work/postgres"/server.*
  # The first line that fits counts.
  sed -i '1i hostssl all secured 127.0.0.1/32 scram-sha-256\nhost all secured 127.0.0.1/32 reject' "$work/postgres/pg_hba.conf"
  start postgres ${as[@]+"${as[@]}"} "$bin/postgres" -D "$work/postgres" -p "$port" -k "$work/postgres" -c listen_addresses=127.0.0.1 -c ssl=on
  await "$bin/pg_isready" -q -U tidegate -d postgres -h 127.0.0.1 -p "$port"
  export TIDEGATE_TEST_POSTGRES="postgres://tidegate@127.0.0.1:$port/postgres?sslmode=disable"
  "$bin/psql" -q -d "$TIDEGATE_TEST_POSTGRES" -c "CREATE ROLE secured LOGIN PASSWORD 's3cret'" -c "CREATE DATABASE secured OWNER secured"
  echo "127.0.0.1:$port:secured:secured:s3cret" >"$work/pgpass"
  chmod 600 "$work/pgpass"
  export TIDEGATE_TEST_POSTGRES_TLS="postgres://secured@127.0.0.1:$port/secured?sslmode=verify-full&sslrootcert=$work/postgres.crt&passfile=$work/pgpass"
}

start_s3() {
  local port gateway=$cache/${VERSITYGW##*@}/versitygw
  [[ -x $gateway ]] || GOBIN=$(dirname "$gateway") go install "$VERSITYGW"
  port=$(free_port)
  mkdir "$work/buckets"
  start s3 "$gateway" --quiet --port "127.0.0.1:$port" --access tidegate --secret tidegate-secret posix "$work/buckets"
  await accepts "$port"
  export TIDEGATE_TEST_S3=http://tidegate:tidegate-secret@127.0.0.1:$port
}

start_gcs() {
  local port server=$cache/${FAKE_GCS##*@}/fake-gcs-server
  [[ -x $server ]] || GOBIN=$(dirname "$server") go install "$FAKE_GCS"
  port=$(free_port)
  start gcs "$server" -scheme http -host 127.0.0.1 -port "$port" -backend memory
  await accepts "$port"
  export TIDEGATE_TEST_GCS=http://127.0.0.1:$port
}

# Install the locked packages of a folder below test/real into the cache.
install_npm() { # name
  local stamp
  stamp=$cache/$1/$(cksum <"test/real/$1/package-lock.json" | cut -d ' ' -f 1)
  [[ ! -e $stamp ]] || return 0
  rm -rf "${cache:?}/$1"
  mkdir -p "$cache/$1"
  cp "test/real/$1"/package*.json "$cache/$1"
  npm ci --prefix "$cache/$1" --ignore-scripts --no-audit --no-fund --loglevel error
  touch "$stamp"
}

start_azure() {
  local port key
  install_npm azurite
  port=$(free_port)
  key=$(head -c 32 /dev/urandom | base64)
  export AZURITE_ACCOUNTS="tidegate:$key"
  # The SDK may speak a newer version of the API than the emulator knows by name.
  start azure node "$cache/azurite/node_modules/azurite/dist/src/blob/main.js" --blobHost 127.0.0.1 --blobPort "$port" \
    --inMemoryPersistence --skipApiVersionCheck --disableTelemetry --silent
  await accepts "$port"
  key=${key//+/%2B}
  key=${key//\//%2F}
  export TIDEGATE_TEST_AZURE=http://tidegate:${key//=/%3D}@127.0.0.1:$port
}

start_kinesis() {
  local port
  install_npm kinesalite
  port=$(free_port)
  start kinesis node "$cache/kinesalite/node_modules/kinesalite/cli.js" --port "$port" --createStreamMs 50
  await accepts "$port"
  export TIDEGATE_TEST_KINESIS=http://127.0.0.1:$port
}

start_syslog() {
  local port
  command -v rsyslogd >/dev/null || install_packages rsyslog
  port=$(free_port)
  cat >"$work/rsyslog.conf" <<EOF
global(workDirectory="$work" maxMessageSize="64k")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="$port")
template(name="message" type="string" string="%msg%\\n")
action(type="omfile" file="$work/syslog" template="message")
EOF
  touch "$work/syslog"
  start syslog rsyslogd -n -f "$work/rsyslog.conf" -i "$work/rsyslog.pid"
  await accepts "$port"
  export TIDEGATE_TEST_SYSLOG=127.0.0.1:$port,$work/syslog
}

start_collector() {
  local port
  go build -C test/collector -o "$cache/collector" .
  port=$(free_port)
  start collector "$cache/collector" -listen "127.0.0.1:$port"
  await accepts "$port"
  export TIDEGATE_TEST_COLLECTOR=http://127.0.0.1:$port
}

# A renamed variable must not turn this into a second run on the embedded ones.
declare -A suites=()
services=(kafka postgres s3 gcs azure kinesis syslog collector)
[[ -z ${TIDEGATE_REAL:-} ]] || IFS=, read -ra services <<<"$TIDEGATE_REAL"
for service in "${services[@]}"; do
  [[ $(type -t "start_$service") == function ]] || fail "no service is called $service"
  variable=TIDEGATE_TEST_${service^^}
  found=$(grep -rlE --include='*_test.go' --exclude-dir=node_modules "$variable|tidegate/test/real/$service\"" . | xargs -r -n1 dirname | sort -u)
  [[ -n $found ]] || fail "no test reads $variable"
  for package in $found; do suites[$package]=1; done
done

for service in "${services[@]}"; do "start_$service"; done
CGO_ENABLED=1 go test -race -shuffle=on -count=1 -timeout 20m "$@" "${!suites[@]}"
