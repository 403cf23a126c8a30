#!/usr/bin/env bash
# What does a switch cost, from connect to close, beside a plain request and beside one with a connection of its own? And does it
# ever go wrong: fifty thousand of them in one run, each byte compared.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin switch 11 0.5 "$@"

# cycles NAME ADDR:PORT: fifty thousand in one run, and what came of it for the record.
cycles() {
  local told
  told=$("$built/upring-load" switch --connections 64 --bytes 64 --requests 50000 --core 1 --quiet --target "$2") || {
    echo "$1: $told" >&2
    exit 1
  }
  echo "$1: ${told%%$'\n'*}"
  notes+=("$1: ${told%%$'\n'*}")
}

build
if [ -z "$targets" ]; then
  for name in hosted native; do
    trap 'kill "$server" 2>/dev/null || true' EXIT
    serve "$name"
    cycles "$name" "127.0.0.1:$port"
    alone
    kill "$server"
    wait "$server" || true
    trap - EXIT
  done
fi
for server in "${running[@]}"; do
  [ "$server" = --target ] && continue
  address=${server#*@}
  cycles "${server%%@*}" "${address%,*}"
done

profile http plaintext 'http --connections 64'
profile http churn 'http --connections 64 --requests-per-connection 1'
profile echo switch 'switch --connections 64 --bytes 64'
profile echo switch-late 'switch --connections 64 --bytes 64 --late'
profile websocket switch-websocket 'switch --connections 64 --bytes 64 --token websocket --late'
compare load hosted native baseline epoll hyper tungstenite fastwebsockets
