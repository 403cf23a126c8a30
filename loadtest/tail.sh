#!/usr/bin/env bash
# How long does the slowest hundredth wait at half and at four fifths of what a server can do, next to the middle one?
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin tail 9 1 "$@"
profile http plaintext 'http --connections 64'
profile echo echo 'echo --connections 64'
compare tail hosted native epoll baseline
