#!/usr/bin/env bash
# A short load over loopback: every answer right, also under attack, system calls and memory within their limits. Ends
# by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --bins --examples
cd target/release
files=$(mktemp -d)
truncate -s 20M "$files/large"
trap 'rm -rf "$files"' EXIT
hosted="hosted=./upring --listen 127.0.0.1:PORT --workers 1 --root $files --host hosted"
native="native=./upring --listen 127.0.0.1:PORT --workers 1 --root $files --host native"
baseline='baseline=examples/baseline --listen 127.0.0.1:PORT --workers 1'

for host in hosted native; do
  ./upring --listen 127.0.0.1:18080 --host "$host" >/dev/null &
  server=$!
  trap 'kill "$server" 2>/dev/null || true; rm -rf "$files"' EXIT
  sleep 0.5
  for load in "plaintext --connections 64" "plaintext --connections 64 --depth 16" \
              "echo --connections 64 --bytes 4096" "websocket --connections 64 --bytes 1024 --depth 16" \
              "switch --connections 64 --bytes 100 --sources 8"; do
    # shellcheck disable=SC2086 # the words of a load are arguments
    examples/burst $load --target 127.0.0.1:18080 --seconds 1
  done
  kill -TERM "$server"
  wait "$server"
  trap 'rm -rf "$files"' EXIT
done

examples/measure syscalls --target "$hosted" --target "$native" --target "$baseline" \
  --limit hosted=4.0,0.6,0.12 --limit native=2.0,0.3,0.08
examples/measure memory --connections 10000 --target "$hosted" --target "$native" --limit 256
examples/measure memory --mode websocket --connections 10000 --target "$hosted" --target "$native" --limit 256
examples/measure faults --seconds 1 --connections 5000 --failed-max 0 --target "$hosted" --target "$native"
examples/measure cpu --rounds 3 --target "$baseline" --target "$hosted" --target "$native"
examples/measure cpu --rounds 3 --mode websocket --connections 1,64 --depth 1,16 --target "$hosted" --target "$native"
