#!/usr/bin/env bash
# What does TLS cost: a request on a connection that is kept, and a connection of its own with its handshake? Processor time of the
# server, in microseconds a request, beside nginx and hyper on tokio-rustls. Driven by wrk, which speaks TLS by OpenSSL; every server has
# the same certificate (ECDSA, P-256), the server has core 0, wrk core 1, the servers take turns, and a figure is the median of its turns.
#
#   loadtest/tls.sh [ROUNDS] [SECONDS]
set -euo pipefail
rounds=${1:-7} seconds=${2:-2}
cd "$(dirname "$0")/.."
for tool in wrk openssl nginx; do
  PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || { echo "$tool is not installed (apt-get install $tool)" >&2 && exit 69; }
done
cargo build --release --quiet --bin upring
cargo build --release --quiet --target-dir target/peers --manifest-path loadtest/peers/Cargo.toml
folder=$(mktemp -d)
pids=()
stop() {
  [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -r "$folder"
}
trap stop EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
for host in hosted native; do
  cat >"$folder/$host.toml" <<TOML
workers = 1
host = "$host"
[[listen]]
address = "127.0.0.1:$([ $host = hosted ] && echo 18443 || echo 18444)"
tls = { certificates = [{ chain = "cert.pem", key = "key.pem" }] }
[[route]]
path = "/plaintext"
answer = { text = "Hello, World!", type = "text/plain" }
TOML
done
sed -e "s/listen 127.0.0.1:PORT backlog=4096/listen 127.0.0.1:18445 ssl backlog=4096/" \
  -e "s|access_log off;|access_log off; ssl_certificate $folder/cert.pem; ssl_certificate_key $folder/key.pem; ssl_session_cache shared:a:8m;|" \
  loadtest/peers/nginx.conf >"$folder/nginx.conf"
start() { taskset -c 0 "$@" >/dev/null 2>&1 & pids+=($!); }
start target/release/upring --config "$folder/hosted.toml"
start target/release/upring --config "$folder/native.toml"
start env "PATH=$PATH:/usr/sbin" nginx -p "$folder" -c nginx.conf -e stderr
start target/peers/release/hyper-server --listen 127.0.0.1:18446 --tls "$folder/cert.pem" "$folder/key.pem"
start target/peers/release/hyper-server --listen 127.0.0.1:18447 --provider ring --tls "$folder/cert.pem" "$folder/key.pem"
names=(hosted native nginx hyper hyper-ring)
sleep 1

# Nanoseconds that the scheduler gave to all threads of a process and its children: finer than ticks.
nanos() {
  local pid task
  for pid in "$1" $(pgrep -P "$1" || true); do
    for task in "/proc/$pid/task/"*; do cat "$task/schedstat" 2>/dev/null || true; done
  done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}
# turn NAME INDEX PROFILE ARGUMENT...
turn() {
  local name=$1 index=$2 profile=$3 before after out requests errors
  shift 3
  before=$(nanos "${pids[$index]}")
  out=$(taskset -c 1 wrk -t1 -c64 "-d${seconds}s" "$@" "https://127.0.0.1:$((18443 + index))/plaintext")
  after=$(nanos "${pids[$index]}")
  requests=$(awk '/requests in/ { print $1 }' <<<"$out")
  errors=$(grep -cE 'Non-2xx|Socket errors: .*(read|write|timeout) [1-9]' <<<"$out" || true)
  awk -v name="$name" -v profile="$profile" -v cpu=$((after - before)) -v requests="$requests" -v seconds="$seconds" -v errors="$errors" \
    'BEGIN { printf "%s %s %.3f %.0f %d\n", profile, name, cpu / requests / 1000, requests / seconds, errors }' >>"$folder/turns"
}
for _ in $(seq "$rounds"); do
  for index in "${!names[@]}"; do
    turn "${names[$index]}" "$index" request
    turn "${names[$index]}" "$index" handshake -H 'Connection: close'
  done
done
printf '%-10s %-11s %14s %12s %8s\n' profile server 'CPU us/request' requests/s errors
for profile in request handshake; do
  for name in "${names[@]}"; do
    awk -v profile=$profile -v name="$name" '$1 == profile && $2 == name { print $3, $4, $5 }' "$folder/turns" | sort -n |
      awk -v profile=$profile -v name="$name" '{ cpu[NR] = $1; rate[NR] = $2; errors += $3 }
        END { printf "%-10s %-11s %14.2f %12.0f %8d\n", profile, name, cpu[int((NR + 1) / 2)], rate[int((NR + 1) / 2)], errors }'
  done
done
