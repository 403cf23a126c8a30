#!/usr/bin/env bash
# nginx.sh PORT: Debian's nginx in the foreground, as nginx.conf has it. Its worker is its child. What it writes is below target/.
set -euo pipefail
peers=$(cd "$(dirname "$0")" && pwd)
folder=$peers/../../target/peers/nginx
mkdir -p "$folder"
sed "s/PORT/$1/" "$peers/nginx.conf" >"$folder/nginx.conf"
PATH=$PATH:/usr/sbin
exec nginx -p "$folder" -c nginx.conf -e stderr
