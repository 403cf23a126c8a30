#!/usr/bin/env bash
# What does a plain request on a kept-alive connection cost, with 1, 64 and 512 connections?
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin plaintext 11 0.5 "$@"
profile http plaintext-1 'http --connections 1'
profile http plaintext-64 'http --connections 64'
profile http plaintext-512 'http --connections 512'
compare load hosted native baseline epoll
