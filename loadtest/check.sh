#!/usr/bin/env bash
# A short load over loopback: every answer right, also under attack, system calls and memory within their limits. Ends
# by itself. With --debug, as CI has it, it takes what the tests have built already, attacks the hosted server alone, and counts no
# memory and compares no times.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
seconds=1
while [ $# -gt 0 ]; do
  case $1 in
    --debug) built=$target/debug seconds=0.4 ;;
    --help | -h) about && exit ;;
    *) refuse "there is no option $1" ;;
  esac
  shift
done
build
cd "$built"
files=$(mktemp -d)
truncate -s 20M "$files/large"
trap 'rm -rf "$files"' EXIT
hosted="hosted=./upring --listen 127.0.0.1:PORT --workers 1 --root $files --host hosted"
native="native=./upring --listen 127.0.0.1:PORT --workers 1 --root $files --host native"
baseline='baseline=examples/baseline --listen 127.0.0.1:PORT --workers 1'

for host in hosted native; do
  trap 'kill "$server" 2>/dev/null || true; rm -rf "$files"' EXIT
  serve "$host"
  for load in "http" "http --depth 16" "http --requests-per-connection 1" "echo --bytes 4096" \
              "echo --token websocket --bytes 1024 --depth 16" "switch --bytes 100" "switch --bytes 100 --late"; do
    # shellcheck disable=SC2086 # the words of a load are arguments
    ./upring-load $load --target "127.0.0.1:$port" --seconds "$seconds" --quiet
  done
  alone
  kill -TERM "$server"
  wait "$server"
  trap 'rm -rf "$files"' EXIT
done

examples/measure syscalls --target "$hosted" --target "$native" \
  --limit hosted=4.0,0.6,0.12 --limit native=2.0,0.3,0.08
both=(--target "$hosted" --target "$native") attackers=5000 phase=1
if [ "$built" = "$target/debug" ]; then both=(--target "$hosted") attackers=2000 phase=0.5; fi
# The tests have counted memory already, by as many connections.
[ "$built" = "$target/debug" ] || examples/measure memory "${both[@]}" --limit 256 \
  --profile echo='idle --connections 15000' --profile websocket='idle --connections 15000 --token websocket'
examples/measure faults --seconds "$phase" --connections "$attackers" --failed-max 0 "${both[@]}"
if [ "$built" = "$target/debug" ]; then exit; fi
examples/measure load --rounds 3 --seconds 0.2 --target "$hosted" --target "$native" --target "$baseline" \
  --profile plaintext='http' --profile pipeline='http --depth 16' --profile switch='switch' \
  --profile websocket='echo --token websocket' --only baseline=plaintext,pipeline,switch
