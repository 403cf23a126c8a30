//! In front of a server that exists already: its WebSockets through a tunnel, all else through the
//! proxy, and health answered here. `front LISTEN BACKEND`, the backend as `host:port` or
//! `unix:/path`.

use upring::{Backend, Config, Proxy, ProxySettings, Resource, Response, Server, Status, Tunnel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or("127.0.0.1:8080".into()).parse()?;
    let backend: Backend = arguments.next().unwrap_or("127.0.0.1:9000".into()).parse()?;

    // A switched connection is the backend's, which has to agree to it first.
    let sockets = Tunnel::to(backend.clone()).protocol("websocket");
    // Each core keeps a few connections to the backend, for less time than the backend does.
    let settings = ProxySettings { idle_connections_max: 16, ..ProxySettings::default() };
    let everything = Proxy::to(backend.clone()).with(settings)?.resource().upgrade(sockets);
    let healthy = Response::text(Status::OK, "ok\n").to_ready();

    let server = Server::new(Config::listening(listen))
        .route("/*", everything)
        .route("/healthz", Resource::new().get(healthy))
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; in front of {backend}; try");
    println!("  python3 -m http.server 9000 & curl -i http://{address}/");
    Ok(server.join()?)
}
