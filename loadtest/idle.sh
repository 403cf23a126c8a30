#!/usr/bin/env bash
# How much memory does an idle switched connection take? Seconds mean nothing here: it is a count of bytes.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin idle 3 0 "$@"
profile echo echo 'idle --connections 15000'
profile websocket websocket 'idle --connections 15000 --token websocket'
compare memory hosted native baseline epoll hyper tungstenite fastwebsockets
