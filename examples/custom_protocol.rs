//! A protocol of your own on one screen. `tally`: a number a line is added up, `bye` ends it.

use upring::{Config, Handler, Io, Lease, Protocol, Resource, Server};

/// Whatever a peer can make grow has a bound.
const LINE_BYTES_MAX: usize = 80;

/// One connection: a plain value that knows no socket, no lock and no runtime.
#[derive(Default)]
struct Tally {
    sum: i64,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
}

impl Handler for Tally {
    /// Bytes come as they were received: half a line, or many.
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > LINE_BYTES_MAX {
                io.write(b"that line is too long\n");
                return io.close();
            }
            if !self.line.ends_with(b"\n") {
                return;
            }
            match self.line.trim_ascii() {
                b"bye" => {
                    io.encode(|out| out.extend(format!("{} in all, bye\n", self.sum).bytes()));
                    return io.close();
                }
                line => match std::str::from_utf8(line).map(str::parse::<i32>) {
                    Ok(Ok(number)) => {
                        self.sum += i64::from(number);
                        io.encode(|out| out.extend(format!("{}\n", self.sum).bytes()));
                    }
                    _ => io.write(b"that is no number\n"),
                },
            }
            self.line.clear();
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let tally = Protocol::callback("tally", |_| Tally::default());
    let server = Server::new(Config::listening(listen))
        .route("/tally", Resource::new().upgrade(tally).upgrade_required())
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; try");
    println!(
        "  (printf 'GET /tally HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: tally\\r\\n\\r\\n'; cat) \\"
    );
    println!("    | nc {} {}, and type numbers", address.ip(), address.port());
    Ok(server.join()?)
}
