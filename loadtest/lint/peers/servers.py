"""Servers of Python that bring a way of their own to be used: `/` and `/content` answer, `/ws` echoes messages."""
import asyncio
import http
import sys
from urllib.parse import urlsplit


def standard(port):
    import functools
    import tempfile
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from pathlib import Path

    SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "index.html").write_text("ok\n")
        handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
        ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


def websockets(port):
    from websockets.asyncio.server import serve

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    def plain(connection, request):
        path = urlsplit(request.path).path
        if path != "/ws":
            status = http.HTTPStatus.OK if path == "/" else http.HTTPStatus.NOT_FOUND
            return connection.respond(status, "ok\n")

    async def main():
        async with serve(echo, "127.0.0.1", port, process_request=plain):
            await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def aiohttp(port):
    from aiohttp import WSMsgType, web

    async def ok(request):
        await request.read()
        return web.Response(text="ok\n")

    async def ws(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/ws", ws)
    for path in ("/", "/content"):
        app.router.add_get(path, ok)
        app.router.add_post(path, ok)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def tornado(port):
    from tornado.ioloop import IOLoop
    from tornado.web import Application, RequestHandler
    from tornado.websocket import WebSocketHandler

    class Ok(RequestHandler):
        def get(self):
            self.write("ok\n")

        post = get
        head = get

    class Echo(WebSocketHandler):
        def on_message(self, message):
            self.write_message(message, binary=isinstance(message, bytes))

        def get_compression_options(self):
            return {}

    Application([("/", Ok), ("/content", Ok), ("/ws", Echo)]).listen(port, "127.0.0.1")
    IOLoop.current().start()


{"http.server": standard, "websockets": websockets, "aiohttp": aiohttp, "tornado": tornado}[sys.argv[1]](int(sys.argv[2]))
