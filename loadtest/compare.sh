#!/usr/bin/env bash
# What does each kind of work cost upring, and what its peers? All of them in one run, some seven minutes.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin compare 11 0.5 "$@"
profile http plaintext 'http --connections 64'
profile http pipeline 'http --connections 64 --depth 16'
profile http churn 'http --connections 64 --requests-per-connection 1'
profile echo switch 'switch --connections 64 --bytes 64'
profile echo echo 'echo --connections 100 --bytes 64'
profile websocket websocket 'echo --connections 100 --bytes 64 --token websocket'
profile websocket websocket-16 'echo --connections 100 --bytes 64 --depth 16 --token websocket'
compare load "${everyone[@]}"
