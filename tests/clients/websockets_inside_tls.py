"""Python's `websockets` against an echo inside TLS, whose certificate it checks.

    websockets_inside_tls.py wss://HOST:PORT/ws

The asynchronous client: the other one has two threads in one TLS connection, of which Python before 3.13 loses
what one of them writes.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

URL = sys.argv[1]
PATIENCE = 60
MESSAGE_BYTES_MAX = 1 << 20
LENGTHS = [0, 1, 125, 126, 1400, 16384, 16385, 65535, 65536, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX]


def opened(**how):
    return connect(URL, compression=None, max_size=None, open_timeout=PATIENCE, close_timeout=PATIENCE, **how)


async def echoed(socket, message):
    async with asyncio.timeout(PATIENCE):
        back = await socket.recv()
    assert back == message, f"{message[:40]!r} came back as {back[:40]!r}"


async def messages_of_every_length_come_back():
    async with opened() as socket:
        assert socket.transport.get_extra_info("cipher"), "it is not inside TLS"
        for length in LENGTHS:
            for message in ["t" * length, bytes(at % 251 for at in range(length))]:
                await socket.send(message)
                await echoed(socket, message)


async def hundreds_in_flight_come_back_in_order():
    messages = [f"{at} " * (at % 200) for at in range(600)]
    async with opened() as socket:

        async def send():
            for message in messages:
                await socket.send(message)

        sending = asyncio.create_task(send())
        for message in messages:
            await echoed(socket, message)
        await sending


async def a_ping_is_answered_and_a_close_comes_back_with_its_code():
    for code in [1000, 1001, 4999]:
        async with opened() as socket:
            async with asyncio.timeout(PATIENCE):
                await (await socket.ping(b"p" * 125))
            await socket.close(code, "bye")
            assert socket.protocol.close_rcvd.code == code, socket.protocol.close_rcvd


async def text_that_is_none_is_1007():
    async with opened() as socket:
        await socket.send(b"\xff", text=True)
        try:
            async with asyncio.timeout(PATIENCE):
                raise AssertionError(f"{await socket.recv()!r} came instead of a Close")
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1007, closed


async def pages_of_other_origins_are_refused():
    authority = URL.split("/")[2]
    async with opened(origin=f"https://{authority}"):
        pass
    try:
        async with opened(origin="https://elsewhere.example"):
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403, refused


async def main():
    for check in [
        messages_of_every_length_come_back,
        hundreds_in_flight_come_back_in_order,
        a_ping_is_answered_and_a_close_comes_back_with_its_code,
        text_that_is_none_is_1007,
        pages_of_other_origins_are_refused,
    ]:
        print(check.__name__, flush=True)
        await check()
    print("all is well")


asyncio.run(main())
