"""Python's `websockets` against an echo.

    websockets_echo.py ws://HOST:PORT/ws
"""

import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

URL = sys.argv[1]
PATIENCE = 60
MESSAGE_BYTES_MAX = 1 << 20
LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX]


def opened(**how):
    return connect(URL, compression=None, max_size=None, close_timeout=PATIENCE, **how)


def echoed(socket, message):
    back = socket.recv(timeout=PATIENCE)
    assert back == message, f"{message[:40]!r} came back as {back[:40]!r}"


def closed_with(socket, message, **how):
    """Why the server closes when it is sent this. Nothing else may come before."""
    try:
        # The Close may come before all of it has left.
        socket.send(message, **how)
        unexpected = socket.recv(timeout=PATIENCE)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the server's Close did not come"
        return closed.rcvd.code
    raise AssertionError(f"{unexpected[:40]!r} came instead of a Close")


def nothing_is_agreed_that_the_server_does_not_have():
    with connect(URL, subprotocols=["chat", "superchat"], compression="deflate") as socket:
        assert socket.subprotocol is None
        fields = socket.response.headers
        assert "Sec-WebSocket-Protocol" not in fields
        assert "Sec-WebSocket-Extensions" not in fields
        socket.send("plain" * 200)
        echoed(socket, "plain" * 200)


def messages_of_every_length_come_back():
    with opened() as socket:
        for length in LENGTHS:
            for message in ["t" * length, bytes(at % 251 for at in range(length))]:
                socket.send(message)
                echoed(socket, message)


def pings_between_fragments_are_answered_before_the_message():
    with opened() as socket:
        pongs = []

        def fragments():
            for at in range(10):
                yield b"fragment %d " % at
                pongs.append(socket.ping(b"between %d" % at))

        socket.send(fragments())
        echoed(socket, b"".join(b"fragment %d " % at for at in range(10)))
        assert all(pong.is_set() for pong in pongs), "a Pong came behind the message"


def a_character_may_be_cut_by_fragments():
    text = "κόσμε 🦀 ende"
    encoded = text.encode()
    with opened() as socket:
        for cut in range(len(encoded) + 1):
            socket.send([encoded[:cut], encoded[cut:]], text=True)
            echoed(socket, text)
        socket.send([encoded[at : at + 1] for at in range(len(encoded))], text=True)
        echoed(socket, text)


def a_ping_is_answered_with_its_payload():
    with opened() as socket:
        for length in [0, 1, 124, 125]:
            # websockets takes a Pong for the answer to a Ping with the same payload.
            assert socket.ping(b"p" * length).wait(PATIENCE), f"no Pong with {length} bytes"


def a_close_comes_back_with_its_code():
    for code, reason in [(1000, ""), (1001, "bye"), (3000, "r" * 123), (4999, "größe")]:
        with opened() as socket:
            socket.close(code, reason)
            protocol = socket.protocol
            assert protocol.close_rcvd.code == code, protocol.close_rcvd
            assert not protocol.close_rcvd_then_sent


def hundreds_in_flight_come_back_in_order():
    messages = [f"{at} " * (at % 200 + 1) for at in range(600)]
    with opened() as socket:
        sender = threading.Thread(target=lambda: [socket.send(message) for message in messages])
        sender.start()
        for message in messages:
            echoed(socket, message)
        sender.join()


def a_message_over_the_limit_is_1009():
    # By one byte: a client that goes on sending may see a reset instead of the Close.
    with opened() as socket:
        assert closed_with(socket, [b"x" * MESSAGE_BYTES_MAX, b"x"]) == 1009


def text_that_is_none_is_1007():
    for message in [b"\xff", b"\xed\xa0\x80", b"cut \xf0\x9f\xa6", [b"fine ", b"\xc3", b"\x28"]]:
        with opened() as socket:
            assert closed_with(socket, message, text=True) == 1007, message


def a_frame_without_a_mask_is_1002():
    with opened() as socket:
        socket.socket.sendall(Frame(Opcode.TEXT, b"plain").serialize(mask=False))
        try:
            raise AssertionError(f"{socket.recv(timeout=PATIENCE)!r} came instead of a Close")
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1002, closed


CHECKS = [
    nothing_is_agreed_that_the_server_does_not_have,
    messages_of_every_length_come_back,
    pings_between_fragments_are_answered_before_the_message,
    a_character_may_be_cut_by_fragments,
    a_ping_is_answered_with_its_payload,
    a_close_comes_back_with_its_code,
    hundreds_in_flight_come_back_in_order,
    a_message_over_the_limit_is_1009,
    text_that_is_none_is_1007,
    a_frame_without_a_mask_is_1002,
]

for check in CHECKS:
    print(check.__name__, flush=True)
    check()
print("all is well")
