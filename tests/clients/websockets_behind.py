"""Python's `websockets` as a server behind a tunnel, or as the client of one.

    websockets_behind.py serve unix:PATH | serve HOST:PORT
    websockets_behind.py try ws://HOST:PORT
"""

import http
import sys
import threading

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve, unix_serve

PATIENCE = 60
LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]


def echo(socket):
    if socket.request.path == "/greet":
        socket.send("welcome")
    try:
        for message in socket:
            if message == "close":
                socket.close(4000, "as asked")
            else:
                socket.send(message)
    except ConnectionClosed:
        pass


def agree(socket, offered):
    return "chat" if "chat" in offered else None


def judge(socket, request):
    if request.path == "/forbidden":
        return socket.respond(http.HTTPStatus.FORBIDDEN, "not you\n")


def run_server(place):
    how = dict(select_subprotocol=agree, process_request=judge, max_size=None)
    if place.startswith("unix:"):
        server = unix_serve(echo, place.removeprefix("unix:"), **how)
    else:
        host, port = place.rsplit(":", 1)
        server = serve(echo, host, int(port), **how)
    with server:
        print(f"listening {server.socket.getsockname()!r}", flush=True)
        # It serves until whoever started it lets go of its input.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


def echoed(socket, message):
    socket.send(message)
    back = socket.recv(timeout=PATIENCE)
    assert back == message, f"{message[:40]!r} came back as {back[:40]!r}"


def messages_of_all_lengths_come_back(url, compression):
    with connect(url, compression=compression, max_size=None) as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == (["permessage-deflate"] if compression else []), names
        for length in LENGTHS:
            echoed(socket, "x" * length)
            echoed(socket, bytes(range(256)) * (length // 256) + b"." * (length % 256))
        assert socket.ping().wait(PATIENCE), "no pong came"


def a_subprotocol_is_agreed_between_the_ends(url):
    with connect(url, subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol


def what_the_server_says_first_comes_first(url):
    with connect(url + "/greet") as socket:
        assert socket.recv(timeout=PATIENCE) == "welcome"
        echoed(socket, "thanks")


def close_codes_go_through(url):
    with connect(url) as socket:
        socket.send("close")
        try:
            socket.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4000, "as asked"), closed
        else:
            raise AssertionError("no close came")


def a_refusal_is_the_servers(url):
    try:
        connect(url + "/forbidden")
    except InvalidStatus as refusal:
        assert refusal.response.status_code == 403, refusal.response
        assert refusal.response.body == b"not you\n", refusal.response.body
    else:
        raise AssertionError("it was not refused")


def many_at_once(url):
    def run():
        with connect(url, max_size=None) as socket:
            for round in range(20):
                echoed(socket, f"{round}" * 1000)

    threads = [threading.Thread(target=run) for _ in range(10)]
    failures = []
    threading.excepthook = lambda what: failures.append(what.exc_value)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures, failures


if sys.argv[1] == "serve":
    run_server(sys.argv[2])
else:
    url = sys.argv[2]
    messages_of_all_lengths_come_back(url, None)
    messages_of_all_lengths_come_back(url, "deflate")
    a_subprotocol_is_agreed_between_the_ends(url)
    what_the_server_says_first_comes_first(url)
    close_codes_go_through(url)
    a_refusal_is_the_servers(url)
    many_at_once(url)
    print("all is well")
