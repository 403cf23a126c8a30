"""An ASGI application: `/` and `/content` answer, `/ws` echoes messages."""


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] != "/ws":
            return await send({"type": "websocket.close"})
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            back = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
            await send({"type": "websocket.send", **back})
    elif scope["type"] == "http":
        while (event := await receive()).get("more_body"):
            pass
        if event["type"] == "http.disconnect":
            return
        status = 200 if scope["path"] in ("/", "/content") else 404
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"ok\n"})
