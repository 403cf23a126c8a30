#!/usr/bin/env bash
# Lints upring and every peer that is installed, on loopback, and writes the matrix to loadtest/lint/matrix.md. A peer that
# is not installed is left out, and said so. Needs: nginx, haproxy, lighttpd, apache2 (Debian); node with ws (npm, NODE_PATH);
# aiohttp, uvicorn with h11, websockets (PyPI).
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --quiet
upring=target/release/upring
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

start() { "$@" >>"$work/log" 2>&1 & pids+=($!); }
lint() { # name version port options...
  local name=$1 version=$2 port=$3; shift 3
  sleep 1
  if "$upring" lint "127.0.0.1:$port" --json --timeout 2500 "$@" >"$work/$name.json" || [ $? = 1 ]; then
    printf '%s\t%s\n' "$name" "$version" >>"$work/peers"
  else
    echo "left out: $name does not answer"
  fi
}
has() { command -v "$1" >/dev/null || { echo "left out: $1 is not installed"; return 1; }; }

start "$upring" --listen 127.0.0.1:18101 --workers 1
lint upring "$("$upring" --version | cut -d' ' -f2)" 18101 --path /plaintext --post-path /content --upgrade-path /echo --token echo

if has nginx; then
  cat >"$work/nginx.conf" <<EOF
daemon off; pid $work/nginx.pid; error_log $work/nginx.log; worker_processes 1;
events { worker_connections 256; }
http { access_log off; client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  server { listen 127.0.0.1:18102;
    location / { return 200 "ok\n"; }
    location /content { proxy_pass http://127.0.0.1:18101/content; }
    location /ws { proxy_pass http://127.0.0.1:18108/ws; proxy_http_version 1.1; proxy_set_header Upgrade \$http_upgrade; proxy_set_header Connection upgrade; } } }
EOF
fi
if has node && node -e "require('ws')" 2>/dev/null; then
  cat >"$work/node.js" <<'EOF'
const http = require('http'), { WebSocketServer } = require('ws');
const server = http.createServer((q, r) => { q.resume(); q.on('end', () => r.end('ok\n')); });
new WebSocketServer({ server, path: '/ws' }).on('connection', w => w.on('message', m => w.send(m)));
server.listen(18108, '127.0.0.1');
EOF
  start node "$work/node.js"
  lint node "$(node --version) with ws" 18108 --post-path /content --upgrade-path /ws
fi
if has nginx; then
  start nginx -c "$work/nginx.conf"
  lint nginx "$(nginx -v 2>&1 | cut -d/ -f2)" 18102 --post-path /content --upgrade-path /ws
fi
if has haproxy; then
  cat >"$work/haproxy.cfg" <<EOF
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend f
  bind 127.0.0.1:18103
  default_backend b
backend b
  server s 127.0.0.1:18108
EOF
  start haproxy -db -f "$work/haproxy.cfg"
  lint haproxy "$(haproxy -v | head -1 | cut -d' ' -f3 | cut -d- -f1), in front of node" 18103 --post-path /content --upgrade-path /ws
fi
if has lighttpd; then
  mkdir -p "$work/www"; echo ok >"$work/www/index.html"
  printf 'server.document-root="%s"\nserver.bind="127.0.0.1"\nserver.port=18104\nindex-file.names=("index.html")\n' "$work/www" >"$work/lighttpd.conf"
  start lighttpd -D -f "$work/lighttpd.conf"
  lint lighttpd "$(lighttpd -v | head -1 | cut -d/ -f2 | cut -d' ' -f1)" 18104
fi
if has apache2; then
  mkdir -p "$work/www"; echo ok >"$work/www/index.html"; m=/usr/lib/apache2/modules
  cat >"$work/apache.conf" <<EOF
ServerName localhost
Listen 127.0.0.1:18105
PidFile $work/apache.pid
ErrorLog $work/apache.log
LoadModule mpm_event_module $m/mod_mpm_event.so
LoadModule authz_core_module $m/mod_authz_core.so
LoadModule dir_module $m/mod_dir.so
DocumentRoot $work/www
DirectoryIndex index.html
EOF
  start apache2 -X -f "$work/apache.conf"
  lint apache2 "$(apache2 -v | head -1 | cut -d/ -f2 | cut -d' ' -f1)" 18105
fi
if python3 -c 'import aiohttp' 2>/dev/null; then
  cat >"$work/aio.py" <<'EOF'
from aiohttp import web
async def ok(q): await q.read(); return web.Response(text="ok\n")
async def ws(q):
    w = web.WebSocketResponse(); await w.prepare(q)
    async for m in w: await w.send_str(m.data)
    return w
app = web.Application(); app.router.add_get("/ws", ws); app.router.add_route("*", "/", ok); app.router.add_route("*", "/content", ok)
web.run_app(app, host="127.0.0.1", port=18106, print=None)
EOF
  start python3 "$work/aio.py"
  lint aiohttp "$(python3 -c 'import aiohttp; print(aiohttp.__version__)')" 18106 --post-path /content --upgrade-path /ws
fi
if python3 -c 'import uvicorn, h11, websockets' 2>/dev/null; then
  cat >"$work/asgi.py" <<'EOF'
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive(); await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect": pass
    elif scope["type"] == "http":
        while (await receive()).get("more_body"): pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"ok\n"})
EOF
  start python3 -m uvicorn --app-dir "$work" --http h11 --ws websockets --lifespan off --port 18107 --log-level error asgi:app
  lint uvicorn "$(python3 -c 'import uvicorn, h11; print(uvicorn.__version__, "with h11", h11.__version__)')" 18107 --post-path /content --upgrade-path /ws
fi

python3 - "$work" <<'EOF' >loadtest/lint/matrix.md
import json, platform, sys, datetime
work = sys.argv[1]
peers = [line.rstrip("\n").split("\t") for line in open(f"{work}/peers")]
documents = {name: json.load(open(f"{work}/{name}.json")) for name, _ in peers}
print("# What `upring lint` finds\n")
print(f"Made by `loadtest/lint/run.sh` on {datetime.date.today()}, Linux {platform.release()}, everything on loopback. `FAIL`: the standard")
print("forbids it. `differs`: the standard allows it, or only advises against it. `-`: not tried, for the target has no such path.\n")
print("| server | version | pass | differs | fail | skipped |\n|---|---|---|---|---|---|")
for name, version in peers:
    t = documents[name]["totals"]
    print(f"| {name} | {version} | {t['pass']} | {t['differs']} | {t['fail']} | {t['skip']} |")
print("\n| row | " + " | ".join(name for name, _ in peers) + " | what a server does |\n|---|" + "---|" * (len(peers) + 1))
first = documents[peers[0][0]]["results"]
for index, vector in enumerate(first):
    words = [documents[name]["results"][index]["verdict"] for name, _ in peers]
    show = {"pass": "pass", "differs": "differs", "fail": "**FAIL**", "skip": "-"}
    print(f"| {vector['row']} | " + " | ".join(show[word] for word in words) + f" | {vector['title']} |")
print("\n## Failures\n")
for name, _ in peers:
    for result in documents[name]["results"]:
        if result["verdict"] == "fail":
            print(f"- **{name}**, {result['row']} ({result['source']}): {result['title']} So: {result['why']}.")
EOF
cat loadtest/lint/matrix.md | sed -n 1,20p
