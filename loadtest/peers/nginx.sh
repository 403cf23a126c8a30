#!/usr/bin/env bash
# nginx.sh PORT [tls]: Debian's nginx in the foreground, as nginx.conf has it, in the clear or in TLS. Its worker is its child. What it
# writes is below target/.
set -euo pipefail
peers=$(cd "$(dirname "$0")" && pwd)
folder=$peers/../../target/peers/nginx${2:+-$2}
mkdir -p "$folder"
listen='s/PORT/&/'
if [ "${2-}" = tls ]; then
  "$peers/certificate.sh" "$folder"
  # It keeps sessions, and gives tickets, which is its default. Of 1.22 TLS 1.3 is none.
  tls='ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_session_cache shared:a:8m; ssl_session_tickets on;'
  listen="s/listen 127.0.0.1:PORT/& ssl/; s/^ *server {/&\n    $tls/"
fi
sed -e "$listen" -e "s/PORT/$1/" "$peers/nginx.conf" >"$folder/nginx.conf"
PATH=$PATH:/usr/sbin
exec nginx -p "$folder" -c nginx.conf -e stderr
