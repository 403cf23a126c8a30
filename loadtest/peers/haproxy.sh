#!/usr/bin/env bash
# haproxy.sh PORT: Debian's haproxy in the foreground, as haproxy.cfg has it, one process. It writes nothing.
set -euo pipefail
peers=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin
exec env PORT="$1" haproxy -db -f "$peers/haproxy.cfg"
