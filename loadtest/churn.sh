#!/usr/bin/env bash
# What does a request cost that has a connection of its own, and one that shares it with nine others?
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin churn 11 0.5 "$@"
profile http churn 'http --connections 64 --requests-per-connection 1'
profile http churn-10 'http --connections 64 --requests-per-connection 10'
compare load hosted native baseline epoll
