"""A WSGI application: `/` and `/content` answer. By itself, it is served by the server that is named: waitress, cheroot."""
import sys


def app(environ, start):
    length = 0
    while piece := environ["wsgi.input"].read(65536):
        length += len(piece)
    status = "200 OK" if environ["PATH_INFO"] in ("/", "/content") else "404 Not Found"
    if length < int(environ.get("CONTENT_LENGTH") or 0):
        status = "400 Bad Request"
    start(status, [("Content-Length", "3")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"ok\n"]


if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "waitress":
        import waitress

        waitress.serve(app, host="127.0.0.1", port=port, threads=4)
    else:
        from cheroot.wsgi import Server

        Server(("127.0.0.1", port), app).start()
