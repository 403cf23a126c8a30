#!/usr/bin/env bash
# certificate.sh FOLDER: a certificate for localhost signed by itself, ECDSA with P-256 as upring's own, in FOLDER/cert.pem and
# FOLDER/key.pem. Made anew each time, by openssl: it is good for two days.
set -euo pipefail
mkdir -p "$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
