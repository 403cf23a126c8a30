#!/usr/bin/env bash
# How much memory does an idle switched connection take? Rounds and seconds mean nothing here: it is a count of bytes.
source "$(dirname "$0")/common.sh"
begin idle 1 0 "$@"
connections=15000
[ -z "$is_quick" ] || connections=3000
profile echo echo "idle --connections $connections"
profile websocket websocket "idle --connections $connections --token websocket"
compare memory hosted native baseline epoll hyper tungstenite fastwebsockets
