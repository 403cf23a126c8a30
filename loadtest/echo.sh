#!/usr/bin/env bash
# What does a message cost that is sent back on a switched connection: raw and WebSocket, small and large, one at a time and sixteen?
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin echo 7 0.5 "$@"
for bytes in 64 1024 16384; do
  for depth in 1 16; do
    profile echo "echo-$bytes-$depth" "echo --connections 100 --bytes $bytes --depth $depth"
    profile websocket "websocket-$bytes-$depth" "echo --connections 100 --bytes $bytes --depth $depth --token websocket"
  done
done
compare load hosted native baseline epoll hyper tungstenite fastwebsockets fastwebsockets-corked
