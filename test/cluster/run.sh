#!/usr/bin/env bash
# Run many of each on one machine and break what is between them: test/cluster. Installs
# what that needs, builds the earlier release that test/cluster/previous names, and removes
# everything at the end, also after a failure or Ctrl-C. Needs root, and the binaries of
# HEAD in bin/, which `make test-cluster` builds. Arguments go to the program, such as
# -run 'Kafka|account'.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=$PWD/bin/real # shared with test/real/run.sh; stays until `make clean`
prefix=tg$$-        # of the names of namespaces
work=
pid=

fail() {
  echo "test-cluster: $*" >&2
  exit 1
}

# The program removes what it made. What it left because it was killed is removed here.
cleanup() {
  local status=$? namespace left
  trap - EXIT INT TERM
  if [[ -n $pid ]] && kill -TERM "$pid" 2>/dev/null; then wait "$pid" || true; fi
  for namespace in $(ip netns list 2>/dev/null | cut -d ' ' -f 1 | grep "^$prefix" || true); do
    for left in $(ip netns pids "$namespace"); do kill -KILL "$left" 2>/dev/null || true; done
    ip netns del "$namespace" || true
  done
  if ((status != 0)) && [[ -n $work ]]; then
    for log in "$work"/*.log "$work"/kafka/*.log; do
      [[ -s $log ]] || continue
      printf '\n== last lines of %s\n' "${log##*/}" >&2
      tail -n 15 "$log" | cut -c 1-600 >&2
    done
  fi
  if [[ -n ${TIDEGATE_TEST_KEEP:-} ]]; then echo "test-cluster: data and logs are in $work" >&2; else rm -rf "$work"; fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

((EUID == 0)) || fail "needs root, for network namespaces and TUN devices"

# What is seen is told of HEAD, so binaries of another commit must not be what is tried. Changes that are not committed may be.
head=$(git rev-parse HEAD)
for binary in tidegate router ingest jobs-api; do
  commit=$("bin/$binary" --version 2>/dev/null | sed -n 's/^commit //p') || true
  [[ $commit == "$head" || -n ${TIDEGATE_TEST_ANY_BUILD:-} ]] ||
    fail "bin/$binary is of commit ${commit:-unknown}, not of HEAD, which is $head: use make test-cluster, which builds first, or set TIDEGATE_TEST_ANY_BUILD=1 to try what is there"
done

install_packages() { # Debian packages...
  echo "test-cluster: installing $*"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

# PostgreSQL's programs, which Debian keeps outside PATH.
postgres_bin() {
  local newest
  newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
  [[ -x $newest ]] && dirname "$newest"
}

packages=()
command -v ip >/dev/null || packages+=(iproute2)
command -v unshare >/dev/null && command -v setpriv >/dev/null || packages+=(util-linux)
command -v hostname >/dev/null || packages+=(hostname)
command -v haproxy >/dev/null || packages+=(haproxy)
command -v mvn >/dev/null && command -v java >/dev/null || packages+=(maven default-jre-headless)
((${#packages[@]} == 0)) || install_packages "${packages[@]}"
if ! postgres=$(postgres_bin); then
  install_packages postgresql-common
  echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
  install_packages postgresql
  postgres=$(postgres_bin) || fail "the package postgresql holds no server"
fi
ip netns add "${prefix}try" 2>/dev/null && ip netns del "${prefix}try" ||
  fail "cannot make network namespaces: in a container pass --privileged, or --cap-add SYS_ADMIN --cap-add NET_ADMIN"
[[ -c /dev/net/tun ]] || fail "the kernel has no /dev/net/tun: try modprobe tun, or in a container pass --device /dev/net/tun"

stamp=$cache/kafka/$(cksum <test/real/kafka/pom.xml | cut -d ' ' -f 1)
if [[ ! -e $stamp ]]; then
  rm -rf "$cache/kafka"
  mvn -q -B -f test/real/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/kafka"
  touch "$stamp"
fi

commit=$(grep -v '^#' test/cluster/previous)
previous=$PWD/bin/previous/$commit
if [[ ! -x $previous/router ]]; then
  git cat-file -e "$commit^{commit}" 2>/dev/null ||
    fail "the commit $commit of the earlier release is not here: this is a shallow clone, or an archive; run git fetch --unshallow, or clone the whole history"
  echo "test-cluster: building the earlier release $commit"
  rm -rf "$previous"
  mkdir -p "$previous/source"
  git archive "$commit" | tar -x -C "$previous/source"
  CGO_ENABLED=0 go build -C "$previous/source" -ldflags "-s -w -X tidegate/internal/app.Version=previous" -o "$previous/" ./cmd/jobs-api ./cmd/ingest ./cmd/router
  rm -r "$previous/source" # its tests are nobody else's
fi
go build -o bin/test-cluster ./test/cluster # below deps/, where the engine's library is looked for

# What the processes with a database seal secrets with: one key for all of them.
TIDEGATE_SECRETS_KEY=$(bin/tidegate secrets key --print)
export TIDEGATE_SECRETS_KEY

work=$(mktemp -d)
chmod 755 "$work" # PostgreSQL runs as a user of its own
bin/test-cluster -bin bin -previous "$previous" -jars "$cache/kafka" -postgres "$postgres" -dir "$work" -prefix "$prefix" "$@" &
pid=$!
wait "$pid" && status=0 || status=$?
pid=
exit "$status"
