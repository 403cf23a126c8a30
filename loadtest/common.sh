# shellcheck shell=bash
# What the scripts of this folder share; they source it. It reads their options, knows how each server is started and what it can
# do, builds what is needed, and runs `measure`. A script says what its profiles are and which servers it is about:
#
#   begin TOPIC ROUNDS SECONDS "$@"
#   profile KIND NAME ARGUMENTS-OF-UPRING-LOAD
#   compare MEASURE SERVER...
set -euo pipefail
loadtest=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# What is built here is what is run, whatever CARGO_TARGET_DIR says: servers are named from here, so that records name no folder of
# the machine they were made on.
target=$loadtest/../target
# Every figure is of a release; `check.sh --debug` counts and compares, and measures no time.
built=$target/release

# How each server is started. PORT stands for a free port. One thread or worker each.
declare -A command=(
  [hosted]='./upring --listen 127.0.0.1:PORT --workers 1 --host hosted'
  [native]='./upring --listen 127.0.0.1:PORT --workers 1 --host native'
  [baseline]='examples/baseline --listen 127.0.0.1:PORT --workers 1'
  [epoll]='examples/epoll --listen 127.0.0.1:PORT --workers 1'
  [hyper]='../peers/release/hyper-server --listen 127.0.0.1:PORT'
  [hyper-flush]='../peers/release/hyper-server --pipeline-flush --listen 127.0.0.1:PORT'
  [tungstenite]='../peers/release/tungstenite-echo --listen 127.0.0.1:PORT'
  [fastwebsockets]='../peers/release/fastwebsockets-echo --listen 127.0.0.1:PORT'
  [fastwebsockets-corked]='../peers/release/fastwebsockets-echo --corked --listen 127.0.0.1:PORT'
  [nginx]='../../loadtest/peers/nginx.sh PORT'
  [haproxy]='../../loadtest/peers/haproxy.sh PORT'
  [hosted-tls]='./upring --listen 127.0.0.1:PORT --workers 1 --host hosted --tls-self-signed'
  [native-tls]='./upring --listen 127.0.0.1:PORT --workers 1 --host native --tls-self-signed'
  [nginx-tls]='../../loadtest/peers/nginx.sh PORT tls'
  [hyper-tls]='../../loadtest/peers/hyper-tls.sh PORT aws-lc'
  [hyper-tls-ring]='../../loadtest/peers/hyper-tls.sh PORT ring'
)
# What it can do: plain requests, a switch to echo, a switch to websocket; in TLS requests, and a switch to echo.
declare -A can=(
  [hosted]='http echo websocket' [native]='http echo websocket' [baseline]='http echo' [epoll]='http echo'
  [hyper]='http echo' [hyper-flush]='http' [tungstenite]='websocket' [fastwebsockets]='websocket'
  [fastwebsockets-corked]='websocket' [nginx]='http' [haproxy]='http'
  [hosted-tls]='tls tls-echo' [native-tls]='tls tls-echo' [nginx-tls]='tls' [hyper-tls]='tls tls-echo' [hyper-tls-ring]='tls tls-echo'
)
everyone=(hosted native baseline epoll hyper hyper-flush tungstenite fastwebsockets fastwebsockets-corked nginx haproxy
  hosted-tls native-tls nginx-tls hyper-tls hyper-tls-ring)

# What the options said.
topic='' rounds='' seconds='' record='' targets='' profiles=''
running=() more=()
# What `serve` has started, and where it listens.
server='' port=''
# What is measured: profiles by name, and what there is to say of servers.
names=() notes=()
declare -A arguments=() kind=()

# about: what is said at the top of the script.
about() {
  sed -n '/^# shellcheck /d; 2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

usage() {
  about
  cat <<'TEXT'

  --server NAME@ADDR:PORT,PID   measure this server, too, which runs already (may be repeated; pin it by `taskset -c 0`)
  --targets NAME,NAME|all|none  of the servers that the script can start, these
  --profiles NAME,NAME          of the profiles, these
  --rounds N, --seconds S       how often each server has a turn, and how long it is
  --record FILE|none            by default loadtest/record/DATE-TOPIC.json, or target/record/DATE-TOPIC.json with an option above
  --quick                       three short rounds and no record
  -- ARGUMENT...                whatever else `measure` is to be told
TEXT
}

# begin TOPIC ROUNDS SECONDS OPTION...
begin() {
  topic=$1 rounds=$2 seconds=$3
  shift 3
  # Only a whole run is one to be committed.
  local folder=$loadtest/record
  while [ $# -gt 0 ]; do
    case $1 in
      --quick) rounds=3 seconds=0.2 record=none ;;
      --help | -h) usage && exit ;;
      --) shift && more=("$@") folder=$target/record && break ;;
      --server | --targets | --profiles | --rounds | --seconds | --record)
        [ $# -gt 1 ] || refuse "$1 needs a value"
        [ "$1" = --record ] || folder=$target/record
        case $1 in
          --server) running+=(--target "$2") ;;
          --targets) targets=$2 ;;
          --profiles) profiles=$2 ;;
          --rounds) rounds=$2 ;;
          --seconds) seconds=$2 ;;
          --record) record=$2 ;;
        esac
        shift
        ;;
      *) refuse "there is no option $1" ;;
    esac
    shift
  done
  if [ -z "$record" ]; then
    mkdir -p "$folder"
    record=$folder/$(date -u +%F)-$topic.json
  fi
  [ "$record" = none ] || [ -d "$(dirname "$record")" ] || refuse "--record $record: there is no such folder"
  # The record is named from where `measure` runs.
  [ "$record" = none ] || record=$(realpath -m --relative-to="$built" "$record")
}

refuse() {
  echo "$1; --help says which there are" >&2
  exit 2
}

# profile KIND NAME ARGUMENTS: what is done to servers of a kind.
profile() {
  if [ -n "$profiles" ] && ! is_in "$2" "${profiles//,/ }"; then return; fi
  names+=("$2")
  kind[$2]=$1
  arguments[$2]=$3
}

is_in() { [[ " $2 " == *" $1 "* ]]; }

# compare MEASURE SERVER...: builds, and measures these servers, or those that were asked for. `measure` takes the place of the script,
# and a signal that is meant for one is for the other.
compare() {
  local measure=$1 called=(--topic "$topic") name count
  shift
  case $targets in
    '') ;;
    all) set -- "${everyone[@]}" ;;
    none) set -- ;;
    *) IFS=, read -ra called_for <<<"$targets" && set -- "${called_for[@]}" ;;
  esac
  [ ${#names[@]} -gt 0 ] || refuse 'no profile has such a name'
  for name in "${names[@]}"; do called+=(--profile "$name=${arguments[$name]}"); done
  count=${#called[@]}
  for name in "$@"; do
    [ -n "${command[$name]-}" ] || refuse "there is no server $name"
    if can_any "$name" && is_there "$name"; then add "$name"; fi
  done
  [ $((${#called[@]} + ${#running[@]})) -gt "$count" ] || refuse 'there is no server to measure: --targets or --server names one'
  build "$@"
  called+=(--rounds "$rounds")
  [ "$measure" = memory ] || called+=(--seconds "$seconds")
  [ "$record" = none ] || called+=(--record "$record")
  for name in "${notes[@]}"; do called+=(--note "$name"); done
  cd "$built"
  exec examples/measure "$measure" "${called[@]}" "${running[@]}" "${more[@]}"
}

# Whether a server can do anything of the profiles.
can_any() {
  local name
  for name in "${names[@]}"; do
    if is_in "${kind[$name]}" "${can[$1]}"; then return; fi
  done
  return 1
}

# Adds a server with what it can do of the profiles to `called`.
add() {
  local some=() name
  for name in "${names[@]}"; do
    if is_in "${kind[$name]}" "${can[$1]}"; then some+=("$name"); fi
  done
  called+=(--target "$1=${command[$1]}")
  if [ ${#some[@]} != ${#names[@]} ]; then called+=(--only "$1=$(IFS=, && echo "${some[*]}")"); fi
}

# Debian's servers may be missing, and the rest is measured without them, which the record says.
is_there() {
  local version program=${1%-tls}
  case $1 in
    nginx-tls | hyper-tls*)
      if ! version=$(openssl version); then
        echo "LEFT OUT: $1 needs openssl, which is not installed (apt-get install openssl)" >&2
        notes+=("left out: $1, openssl is not installed")
        return 1
      fi
      ;;&
    nginx | nginx-tls | haproxy)
      if ! version=$(PATH=$PATH:/usr/sbin && "$program" -v 2>&1); then
        echo "LEFT OUT: $1 is not installed (apt-get install $program)" >&2
        notes+=("left out: $1, not installed")
        return 1
      fi
      # Its first line, without where it is from.
      version=${version%%$'\n'*}
      notes+=("${version%% - http*}")
      ;;
    # Those with a suffix are the same in another way.
    hyper | hyper-tls | tungstenite | fastwebsockets)
      version=$(sed -n "/^name = \"$program\"/{n;s/.*\"\(.*\)\"/\1/p}" "$loadtest/peers/Cargo.lock")
      notes+=("$program $version")
      ;;
  esac
}

# Builds what these servers need. Built once, it is only looked at.
build() {
  local cargo=(cargo build --quiet --target-dir)
  [ "$built" = "$target/debug" ] || cargo=(cargo build --release --quiet --target-dir)
  (cd "$loadtest/.." && "${cargo[@]}" target --bins --example measure --example baseline --example epoll)
  local name
  for name in "$@"; do
    if [[ ${command[$name]-} == ../peers/* || $name == hyper-* ]]; then
      (cd "$loadtest/.." && "${cargo[@]}" target/peers --manifest-path loadtest/peers/Cargo.toml)
      return
    fi
  done
}

# serve NAME: starts one of upring's servers on a port that the kernel chooses, and sets `server`, its process, and `port`. It is the
# caller's to stop.
serve() {
  local told
  told=$(mktemp)
  # shellcheck disable=SC2086 # the words of a command are arguments
  (cd "$built" && exec taskset -c 0 ${command[$1]/PORT/0} >"$told") &
  server=$! port=''
  until [ -n "$port" ]; do
    sleep 0.1
    kill -0 "$server" || exit 1
    port=$(sed -n 's|^ *https\{0,1\}://127.0.0.1:\([0-9]*\)/ .*|\1|p' "$told")
  done
  rm "$told"
}

# alone: refuses to go on if another than `server` listens on its port, which SO_REUSEPORT permits: it had a part of the connections.
# What has ended is left out beforehand: it may be tens of thousands of lines, and bash reads them a byte at a time.
alone() {
  local address state inode
  while read -r _ address _ state _ _ _ _ _ inode _; do
    if [[ $state == 0A && $address == *:$(printf %04X "$port") ]] &&
      [[ $(readlink "/proc/$server/fd/"*) != *"socket:[$inode]"* ]]; then
      echo "another server listens on port $port, too" >&2
      exit 1
    fi
  done < <(grep ' 0A ' /proc/net/tcp)
}
