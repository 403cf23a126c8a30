#!/usr/bin/env bash
# Lints upring and every peer that is installed, on loopback, one after the other, and writes what came of it to
# loadtest/lint/matrix.md. Names as arguments restrict it to these peers, and print instead of writing.
#
# Debian: nginx haproxy lighttpd apache2 caddy h2o varnish mini-httpd nodejs npm python3-venv. What PyPI, npm and crates.io have is
# installed below target/lint-peers, and target/lint-peers/reports has what was said in full. A peer that is not there is left out, and said so.
set -euo pipefail
cd "$(dirname "$0")/../.."

main() {
  only=" $* "
cargo build --release --quiet --bin upring --example lint_peer
built=$PWD/${CARGO_TARGET_DIR:-target}/release
[ -x "$built/upring" ] || built=$CARGO_TARGET_DIR/release
upring=$built/upring
peers=$PWD/loadtest/lint/peers
tools=${CARGO_TARGET_DIR:-$PWD/target}/lint-peers
work=$(mktemp -d)
chmod 755 "$work"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

port=18100
: >"$work/peers"
wanted() { [ "$only" = "  " ] || [[ "$only" == *" $1 "* ]]; }
has() { command -v "$1" >/dev/null || { echo "left out: $1 is not installed" >&2; return 1; }; }
start() { "$@" >>"$work/log" 2>&1 & pids+=($!); }
stop() { kill "${pids[-1]}" 2>/dev/null || true; wait "${pids[-1]}" 2>/dev/null || true; unset 'pids[-1]'; }
# lint NAME VERSION OPTION...: what listens on $port
lint() {
  local name=$1 version=$2 status=0; shift 2
  for _ in $(seq 150); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.2; done
  "$upring" lint "127.0.0.1:$port" --json "$@" >"$work/$name.json" || status=$?
  mkdir -p "$tools/reports" && cp "$work/$name.json" "$tools/reports/"
  case $status in
    0 | 1 | 70) printf '%s\t%s\n' "$name" "$version" >>"$work/peers" ;;
    *) echo "left out: $name could not be tried" >&2 ;;
  esac
}
# peer NAME VERSION START-COMMAND -- OPTION...
peer() {
  local name=$1 version=$2 command=(); shift 2
  while [ "$1" != -- ]; do command+=("$1"); shift; done; shift
  start "${command[@]}"
  lint "$name" "$version" "$@"
  stop
}
next() { port=$((port + 1)); wanted "$1"; }

# Tools.
has python3 && [ -d "$tools/venv" ] || python3 -m venv "$tools/venv"
python=$tools/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check aiohttp uvicorn h11 httptools websockets wsproto tornado gunicorn \
  daphne hypercorn waitress cheroot granian || echo "not all of PyPI's peers are there" >&2
if has npm; then (mkdir -p "$tools/npm" && cd "$tools/npm" && [ -d node_modules/ws ] || npm install --silent ws bun) || true; fi
export NODE_PATH=$tools/npm/node_modules
version() { "$python" -c "import importlib.metadata as m; print(m.version('$1'))"; }
both=(--post-path /content --upgrade-path /ws)

if next upring; then
  peer upring "$("$upring" --version | cut -d' ' -f2)" "$upring" --listen "127.0.0.1:$port" --workers 1 \
    -- --path /plaintext --post-path /content --upgrade-path /ws --token websocket --upgrade-path /echo --token echo
fi
# The same, with all that there are vectors for.
if next upring-deflate; then
  peer upring-deflate "$("$upring" --version | cut -d' ' -f2), its WebSocket compresses" "$built/examples/lint_peer" "127.0.0.1:$port" \
    -- --upgrade-path /ws --token websocket --upgrade-path /echo --token echo
fi

# Node is also what stands behind the proxies: it takes nearly everything, so that what they let through is seen.
node=18199
if has node && node -e "require('ws')" 2>/dev/null; then
  start node "$peers/node.js" $node
  if next node; then
    peer node "$(node --version | tr -d v), ws $(node -p "require('ws/package.json').version")" node "$peers/node.js" "$port" -- "${both[@]}"
  fi
fi
if next nginx && has nginx; then
  cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/nginx.log; worker_processes 1;
events { worker_connections 256; }
http { access_log off; client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  map \$http_upgrade \$connection_upgrade { default upgrade; '' close; }
  server { listen 127.0.0.1:$port;
    location = / { return 200 "ok\n"; }
    location = /content { proxy_pass http://127.0.0.1:$node; }
    location = /ws { proxy_pass http://127.0.0.1:$node; proxy_http_version 1.1; proxy_set_header Upgrade \$http_upgrade; proxy_set_header Connection \$connection_upgrade; }
    location / { return 404; } } }
CONF
  peer nginx "$(nginx -v 2>&1 | cut -d/ -f2), node behind it" nginx -c "$work/nginx.conf" -- "${both[@]}"
fi
if next haproxy && has haproxy; then
  cat >"$work/haproxy.cfg" <<CONF
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 5s
frontend f
  bind 127.0.0.1:$port
  default_backend b
backend b
  server s 127.0.0.1:$node
CONF
  peer haproxy "$(haproxy -v | head -1 | cut -d' ' -f3 | cut -d- -f1), node behind it" haproxy -db -f "$work/haproxy.cfg" -- "${both[@]}"
fi
mkdir -p "$work/www"; echo ok >"$work/www/index.html"; chmod -R a+rX "$work/www"
if next apache2 && has apache2; then
  modules=/usr/lib/apache2/modules
  {
    printf 'ServerName localhost\nListen 127.0.0.1:%s\nPidFile %s\nErrorLog %s\n' "$port" "$work/apache.pid" "$work/apache.log"
    for module in mpm_event authz_core dir proxy proxy_http proxy_wstunnel; do echo "LoadModule ${module}_module $modules/mod_$module.so"; done
    printf 'DocumentRoot %s\nDirectoryIndex index.html\n' "$work/www"
    printf 'ProxyPass /content http://127.0.0.1:%s/content\nProxyPass /ws ws://127.0.0.1:%s/ws\n' $node $node
  } >"$work/apache.conf"
  peer apache2 "$(apache2 -v | head -1 | cut -d/ -f2 | cut -d' ' -f1), node behind it" apache2 -X -f "$work/apache.conf" -- "${both[@]}"
fi
if next lighttpd && has lighttpd; then
  cat >"$work/lighttpd.conf" <<CONF
server.modules = ("mod_proxy")
server.document-root = "$work/www"
server.bind = "127.0.0.1"
server.port = $port
index-file.names = ("index.html")
\$HTTP["url"] =~ "^/(content|ws)\$" {
  proxy.server = ("" => (("host" => "127.0.0.1", "port" => $node)))
  proxy.header = ("upgrade" => "enable")
}
CONF
  peer lighttpd "$(lighttpd -v | head -1 | cut -d/ -f2 | cut -d' ' -f1), node behind it" lighttpd -D -f "$work/lighttpd.conf" -- "${both[@]}"
fi
if next caddy && has caddy; then
  cat >"$work/Caddyfile" <<CONF
{
  admin off
  auto_https off
}
http://:$port {
  bind 127.0.0.1
  handle /content {
    reverse_proxy 127.0.0.1:$node
  }
  handle /ws {
    reverse_proxy 127.0.0.1:$node
  }
  handle / {
    respond "ok"
  }
  handle {
    respond 404
  }
}
CONF
  peer caddy "$(caddy version | cut -d' ' -f1), node behind it" env HOME="$work" caddy run --adapter caddyfile --config "$work/Caddyfile" -- "${both[@]}"
fi
if next h2o && has h2o; then
  cat >"$work/h2o.yaml" <<CONF
listen: {host: 127.0.0.1, port: $port}
num-threads: 1
proxy.websocket: ON
proxy.preserve-host: ON
hosts:
  default:
    paths:
      /content: {proxy.reverse.url: "http://127.0.0.1:$node/content"}
      /ws: {proxy.reverse.url: "http://127.0.0.1:$node/ws"}
      /: {file.dir: $work/www}
CONF
  [ "$(id -u)" = 0 ] && sed -i '1i user: root' "$work/h2o.yaml"
  peer h2o "$(h2o --version | head -1 | cut -d' ' -f3), node behind it" h2o -c "$work/h2o.yaml" -- "${both[@]}"
fi
if next varnish && has varnishd; then
  cat >"$work/varnish.vcl" <<CONF
vcl 4.1;
backend node { .host = "127.0.0.1"; .port = "$node"; }
sub vcl_recv { if (req.http.upgrade ~ "(?i)websocket") { return (pipe); } return (pass); }
sub vcl_pipe { if (req.http.upgrade) { set bereq.http.upgrade = req.http.upgrade; set bereq.http.connection = req.http.connection; } }
CONF
  peer varnish "$(varnishd -V 2>&1 | head -1 | sed 's/.*varnish-\([0-9.]*\).*/\1/'), node behind it" \
    varnishd -F -j none -n "$work/varnish" -a "127.0.0.1:$port" -f "$work/varnish.vcl" -s malloc,32m -- "${both[@]}"
fi
if next mini-httpd && has mini_httpd; then
  peer mini-httpd "$(mini_httpd -V 2>&1 | head -1 | sed 's/[^0-9]*\([0-9.]*\).*/\1/')" \
    mini_httpd -D -h 127.0.0.1 -p "$port" -d "$work/www" -u root -i "$work/mini.pid" -l "$work/mini.log" -- 
fi
if next bun && [ -x "$tools/npm/node_modules/.bin/bun" ]; then
  bun=$tools/npm/node_modules/.bin/bun
  peer bun "$("$bun" --version)" "$bun" "$peers/bun.js" "$port" -- "${both[@]}"
fi
if next axum && CARGO_TARGET_DIR=$tools/axum cargo build --release --quiet --manifest-path "$peers/axum/Cargo.toml"; then
  pick() { sed -n "/^name = \"$1\"/{n;s/.*\"\(.*\)\"/\1/p}" "$peers/axum/Cargo.lock"; }
  peer axum "$(pick axum), hyper $(pick hyper), tungstenite $(pick tungstenite)" "$tools/axum/release/axum-peer" "$port" -- "${both[@]}"
fi
for name in aiohttp tornado websockets http.server; do
  if next $name; then
    case $name in
      http.server) peer $name "Python $("$python" -c 'import platform; print(platform.python_version())')" "$python" "$peers/servers.py" $name "$port" -- ;;
      websockets) peer $name "$(version $name)" "$python" "$peers/servers.py" $name "$port" -- --upgrade-path /ws ;;
      *) peer $name "$(version $name)" "$python" "$peers/servers.py" $name "$port" -- "${both[@]}" ;;
    esac
  fi
done
if next uvicorn-h11; then
  peer uvicorn-h11 "$(version uvicorn), h11 $(version h11), websockets $(version websockets)" "$python" -m uvicorn --app-dir "$peers" --http h11 --ws websockets \
    --lifespan off --port "$port" --log-level error asgi:app -- "${both[@]}"
fi
if next uvicorn-httptools; then
  peer uvicorn-httptools "$(version uvicorn), httptools $(version httptools), wsproto $(version wsproto)" "$python" -m uvicorn --app-dir "$peers" --http httptools --ws wsproto \
    --lifespan off --port "$port" --log-level error asgi:app -- "${both[@]}"
fi
if next hypercorn; then
  peer hypercorn "$(version hypercorn), h11 $(version h11)" env PYTHONPATH="$peers" "$python" -m hypercorn --bind "127.0.0.1:$port" asgi:app -- "${both[@]}"
fi
if next daphne; then
  peer daphne "$(version daphne), Twisted $(version twisted)" env PYTHONPATH="$peers" "$python" -m daphne -b 127.0.0.1 -p "$port" asgi:app -- "${both[@]}"
fi
if next granian; then
  peer granian "$(version granian)" env PYTHONPATH="$peers" "$tools/venv/bin/granian" --interface asgi --host 127.0.0.1 --port "$port" --log-level error asgi:app -- "${both[@]}"
fi
if next gunicorn; then
  peer gunicorn "$(version gunicorn)" "$python" -m gunicorn --chdir "$peers" --bind "127.0.0.1:$port" --threads 4 --log-level critical wsgi:app -- --post-path /content
fi
for name in waitress cheroot; do
  if next $name; then peer $name "$(version $name)" "$python" "$peers/wsgi.py" $name "$port" -- --post-path /content; fi
done

if [ "$only" = "  " ]; then
  python3 loadtest/lint/matrix.py "$work" >loadtest/lint/matrix.md
  sed -n '/^| server/,/^$/p' loadtest/lint/matrix.md
else
  python3 loadtest/lint/matrix.py "$work"
fi
}

main "$@"
