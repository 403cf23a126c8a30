"""`wsproto` on a plain socket against an echo: what a client library does not let one send, too.

    wsproto_echo.py ws://HOST:PORT/ws
"""

import socket
import sys
import threading
import time
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

URL = urlsplit(sys.argv[1])
PATIENCE = 60
MESSAGE_BYTES_MAX = 1 << 20
LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX]


class Client:
    """A connection; opened, unless the server rejects it."""

    def __init__(self, target=URL.path, headers=(), **offer):
        self.socket = socket.create_connection((URL.hostname, URL.port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.came = self.events()
        request = Request(host=URL.netloc, target=target, extra_headers=list(headers), **offer)
        self.send(request)
        self.opening = next(self.came)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def events(self):
        while True:
            yield from self.protocol.events()
            if self.protocol.state is ConnectionState.CLOSED:
                return
            self.protocol.receive_data(self.socket.recv(65536) or None)

    def send(self, *events):
        self.socket.sendall(b"".join(map(self.protocol.send, events)))

    def receive(self):
        """The next event; a message whole, however it is cut."""
        event, data = next(self.came), None
        while isinstance(event, Message):
            data = event.data if data is None else data + event.data
            if event.message_finished:
                return type(event)(data=data)
            event = next(self.came)
        return event

    def expect(self, *events):
        for event in events:
            came = self.receive()
            assert came == event, f"{str(came)[:80]} instead of {str(event)[:80]}"

    def expect_close(self, code):
        """A Close with this code, and the end of the connection behind it."""
        came = self.receive()
        assert isinstance(came, CloseConnection) and came.code == code, f"{came}, not {code}"
        self.socket.settimeout(PATIENCE)
        assert self.socket.recv(1) == b"", "something came behind the Close"


def frame(first, payload, length=None):
    """A frame whose mask is zero; `length` is what stands for its own."""
    own = bytes([0x80 | len(payload)]) if length is None else length
    return bytes([first]) + own + bytes(4) + payload


def nothing_is_agreed_that_the_server_does_not_have():
    with Client(subprotocols=["chat"], extensions=[PerMessageDeflate()]) as client:
        assert isinstance(client.opening, AcceptConnection), client.opening
        assert client.opening.subprotocol is None and client.opening.extensions == []
        names = [name for name, _ in client.opening.extra_headers]
        assert b"sec-websocket-protocol" not in names and b"sec-websocket-extensions" not in names


def pages_of_other_origins_are_refused():
    # RFC 6455 §10.2.
    for origin in [b"http://elsewhere.example", b"null", b"http://" + URL.hostname.encode()]:
        with Client(headers=[(b"Origin", origin)]) as client:
            assert isinstance(client.opening, RejectConnection), client.opening
            assert client.opening.status_code == 403
    with Client(headers=[(b"Origin", f"http://{URL.netloc}".encode())]) as client:
        assert isinstance(client.opening, AcceptConnection), client.opening


def messages_of_every_length_come_back():
    with Client() as client:
        for length in LENGTHS:
            pattern = bytes(range(256)) * (length // 256 + 1)
            for message in [TextMessage("t" * length), BytesMessage(pattern[:length])]:
                client.send(message)
                client.expect(message)


def one_byte_a_segment_is_a_message_all_the_same():
    with Client() as client:
        text = TextMessage("größer als ein Segment ist nichts hier")
        for byte in client.protocol.send(text):
            client.socket.sendall(bytes([byte]))
        client.expect(text)


def pings_between_fragments_are_answered_before_the_message():
    with Client() as client:
        client.send(
            TextMessage("κόσ", message_finished=False),
            Ping(b"first"),
            TextMessage("", message_finished=False),
            Pong(b"that nobody asked for"),
            TextMessage("με", message_finished=False),
            Ping(b"second" * 20),
            TextMessage("", message_finished=True),
        )
        client.expect(Pong(b"first"), Pong(b"second" * 20), TextMessage("κόσμε"))


def a_character_may_be_cut_by_fragments():
    crab = "🦀".encode()
    with Client() as client:
        parts = [frame(0x01, crab[:1]), frame(0x00, crab[1:3]), frame(0x00, b""), frame(0x80, crab[3:])]
        client.socket.sendall(b"".join(parts))
        client.expect(TextMessage("🦀"))


def hundreds_in_flight_come_back_in_order_in_one_write():
    messages = []
    for at in range(400):
        messages.append(TextMessage(f"{at} " * (at % 50)))
        messages.append(BytesMessage(bytes([at % 256]) * (at % 300)))
    with Client() as client:
        client.send(*messages)
        client.expect(*messages)


def the_largest_messages_come_back_to_a_client_that_reads_late():
    sizes = [MESSAGE_BYTES_MAX if at % 4 == 3 else 60_000 for at in range(60)]
    # At the end one that comes while some of those before it wait: the server reads it, as that is
    # less than it takes to stop.
    sizes += [30_000] * 150 + [MESSAGE_BYTES_MAX]
    messages = [BytesMessage(bytes([at]) * size) for at, size in enumerate(sizes)]
    with Client() as client:
        sender = threading.Thread(target=lambda: [client.send(message) for message in messages])
        sender.start()
        # Long enough for everything between the two to be full.
        sender.join(0.3)
        for message in messages:
            client.expect(message)
            if len(message.data) == 30_000:
                # Not what it waits for: how slowly it reads.
                time.sleep(0.01)
        sender.join()


def a_close_comes_back_with_its_code_behind_what_was_sent_before():
    for code, reason in [(1000, None), (1001, "bye"), (3000, "r" * 123), (4999, "größe")]:
        with Client() as client:
            last = TextMessage("the last one")
            client.send(last, CloseConnection(code=code, reason=reason))
            client.expect(last)
            client.expect_close(code)


def a_close_that_says_nothing_is_answered_with_one_that_says_nothing():
    with Client() as client:
        client.socket.sendall(frame(0x88, b""))
        # RFC 6455 §7.1.5: what stands for no code at all.
        client.expect_close(1005)


def what_breaks_a_rule_is_closed_with_its_code():
    large = (127, (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big"))
    for code, sent in [
        # RFC 6455 §5.1: every frame of a client is masked.
        (1002, b"\x81\x05plain"),
        (1002, b"\x89\x00"),
        # §5.2: reserved bits, reserved opcodes, lengths in their shortest form.
        (1002, frame(0xC1, b"")),
        (1002, frame(0xA1, b"")),
        (1002, frame(0x83, b"")),
        (1002, frame(0x8F, b"")),
        (1002, frame(0x82, b"x", b"\xfe\x00\x01")),
        (1002, frame(0x82, b"x", b"\xff" + (1).to_bytes(8, "big"))),
        (1002, b"\x82\xff\x80"),
        # §5.4: fragments in order.
        (1002, frame(0x80, b"continues nothing")),
        (1002, frame(0x01, b"begins") + frame(0x81, b"begins once more")),
        # §5.5: control frames are whole and short.
        (1002, frame(0x09, b"")),
        (1002, b"\x89\xfe\x00\x7e"),
        # §5.5.1, §7.4: what a Close may say.
        (1002, frame(0x88, b"\x03")),
        (1002, frame(0x88, (1005).to_bytes(2, "big"))),
        (1002, frame(0x88, (999).to_bytes(2, "big"))),
        (1002, frame(0x88, (5000).to_bytes(2, "big"))),
        (1007, frame(0x88, b"\x03\xe8\xff")),
        # §8.1: text is UTF-8, and the first byte that is not is enough.
        (1007, frame(0x81, b"\xff")),
        (1007, frame(0x81, b"\xed\xa0\x80")),
        (1007, frame(0x81, b"\xf4\x90\x80\x80")),
        (1007, frame(0x81, b"\xc0\x80")),
        (1007, frame(0x81, b"cut \xf0\x9f\xa6")),
        (1007, frame(0x01, b"\xf0\x9f") + frame(0x00, b"\x28")),
        # What is too large is refused before it comes, what is too much when it does.
        (1009, b"\x82" + bytes([0x80 | large[0]]) + large[1] + bytes(4)),
        (1009, frame(0x02, b"a") + b"\x80" + bytes([0xFF]) + (1 << 20).to_bytes(8, "big") + bytes(4)),
        (1008, frame(0x01, b"") + frame(0x00, b"") * 4096),
    ]:
        with Client() as client:
            client.socket.sendall(sent)
            client.expect_close(code)


def a_flood_of_pings_is_1008():
    with Client() as client:
        client.socket.sendall(frame(0x89, b"") * 1000)
        pongs = 0
        while isinstance(event := client.receive(), Pong):
            pongs += 1
        assert isinstance(event, CloseConnection) and event.code == 1008, event
        # It may have begun in one second and ended in the next.
        assert 100 <= pongs <= 200, pongs


CHECKS = [
    nothing_is_agreed_that_the_server_does_not_have,
    pages_of_other_origins_are_refused,
    messages_of_every_length_come_back,
    one_byte_a_segment_is_a_message_all_the_same,
    pings_between_fragments_are_answered_before_the_message,
    a_character_may_be_cut_by_fragments,
    hundreds_in_flight_come_back_in_order_in_one_write,
    the_largest_messages_come_back_to_a_client_that_reads_late,
    a_close_comes_back_with_its_code_behind_what_was_sent_before,
    a_close_that_says_nothing_is_answered_with_one_that_says_nothing,
    what_breaks_a_rule_is_closed_with_its_code,
    a_flood_of_pings_is_1008,
]

for check in CHECKS:
    print(check.__name__, flush=True)
    check()
print("all is well")
