#!/usr/bin/env bash
# hyper-tls.sh PORT PROVIDER: hyper on tokio-rustls, with aws-lc or ring. What it writes is below target/.
set -euo pipefail
peers=$(cd "$(dirname "$0")" && pwd)
folder=$peers/../../target/peers/hyper-tls-$2
"$peers/certificate.sh" "$folder"
exec "$peers/../../target/peers/release/hyper-server" --listen "127.0.0.1:$1" --provider "$2" --tls "$folder/cert.pem" "$folder/key.pem"
