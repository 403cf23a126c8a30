#!/usr/bin/env bash
# What does TLS cost: a request, one of sixteen and a message on a connection that is kept, and a handshake, full or resumed?
# Every server has a certificate of ECDSA with P-256, and gives tickets; a profile without --tls-resume keeps none of them.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin tls 11 0.5 "$@"
profile tls request 'http --tls --connections 64'
profile tls request-16 'http --tls --connections 64 --depth 16'
profile tls-echo message 'echo --tls --connections 100 --bytes 64'
profile tls-echo message-16k 'echo --tls --connections 100 --bytes 16384'
profile tls handshake 'http --tls --connections 64 --requests-per-connection 1'
profile tls handshake-resumed 'http --tls --connections 64 --requests-per-connection 1 --tls-resume'
profile tls handshake-12 'http --tls --connections 64 --requests-per-connection 1 --tls-version 1.2'
compare load hosted-tls native-tls nginx-tls hyper-tls hyper-tls-ring
