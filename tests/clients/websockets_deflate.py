"""Python's `websockets` with permessage-deflate against echoes that compress.

    websockets_deflate.py ws://HOST:PORT

/shared forgets after each message, /dedicated remembers 32 KiB, /narrow remembers 512 bytes.
"""

import itertools
import random
import sys

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.sync.client import connect

URL = sys.argv[1]
PATIENCE = 60
# No two places of it are alike: only what was sent before makes it shorter.
HEX = random.Random(7).randbytes(4000).hex()
TEXTS = ["", "short", "κόσμε 🦀 " * 500, "a" * 65536, "b" * 200_000, HEX]

# What came compressed: the sizes of frames with RSV1.
compressed = []
decode = PerMessageDeflate.decode


def noting(self, frame, **how):
    if frame.rsv1:
        compressed.append(len(frame.data))
    return decode(self, frame, **how)


PerMessageDeflate.decode = noting


def opened(path, **offer):
    extensions = [ClientPerMessageDeflateFactory(**offer)]
    return connect(URL + path, compression=None, extensions=extensions, max_size=None)


def echoed(socket, message):
    """Bytes that came compressed, or 0."""
    compressed.clear()
    socket.send(message)
    back = socket.recv(timeout=PATIENCE)
    assert back == message, f"{message[:40]!r} came back as {back[:40]!r}"
    return sum(compressed)


def everything_comes_back(socket):
    for text in TEXTS + TEXTS:
        for message in [text, text.encode()]:
            came = echoed(socket, message)
            assert (came > 0) == (len(message) >= 256), f"RSV1 of {message[:40]!r}"
            assert came < max(len(message), 1), f"{message[:40]!r} came in {came} bytes"
    # Compressed as one, cut in pieces.
    socket.send(HEX[at : at + 500] for at in range(0, len(HEX), 500))
    assert socket.recv(timeout=PATIENCE) == HEX


def every_mode_works(path):
    modes = itertools.product([False, True], [False, True], [(None, None), (None, True), (9, 9), (15, 15)])
    for server_forgets, client_forgets, (server_bits, client_bits) in modes:
        offer = {
            "server_no_context_takeover": server_forgets,
            "client_no_context_takeover": client_forgets,
            "server_max_window_bits": server_bits,
            "client_max_window_bits": client_bits,
        }
        with opened(path, **offer) as socket:
            agreed = socket.response.headers["Sec-WebSocket-Extensions"]
            assert agreed.startswith("permessage-deflate"), agreed
            forgets = "server_no_context_takeover" in agreed
            assert forgets == (server_forgets or path == "/shared"), (offer, agreed)
            first, again = echoed(socket, HEX), echoed(socket, HEX)
            # A window of 512 bytes does not reach back to what was sent 8000 bytes ago.
            remembers = not forgets and path == "/dedicated" and server_bits != 9
            assert (again < first / 4) == remembers, (path, offer, agreed, first, again)
            everything_comes_back(socket)


def what_grows_over_the_limit_is_1009(path):
    with opened(path) as socket:
        socket.send(b"\0" * (16 << 20))
        try:
            raise AssertionError(f"{socket.recv(timeout=PATIENCE)[:40]!r} instead of a Close")
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1009, closed


for path in ["/shared", "/dedicated", "/narrow"]:
    for check in [every_mode_works, what_grows_over_the_limit_is_1009]:
        print(path, check.__name__, flush=True)
        check(path)
print("all is well")
