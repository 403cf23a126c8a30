#!/usr/bin/env bash
# What does a request cost of which sixteen come at once, on 1 connection and on 64?
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin pipeline 11 0.5 "$@"
profile http pipeline-1 'http --connections 1 --depth 16'
profile http pipeline-64 'http --connections 64 --depth 16'
compare load hosted native baseline epoll
