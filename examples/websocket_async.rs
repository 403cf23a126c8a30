//! An async WebSocket handler: a countdown that goes on beside what its client says, and that ends in
//! order when the server stops.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::time::{Instant, timeout_at};
use upring::websocket::{AsyncSocket, CloseCode, Message, SendError, WebSocket};
use upring::{Config, OwnedRequest, Resource, Server};

const TICK: Duration = Duration::from_millis(250);

enum Next {
    Said(Message),
    Tick,
    /// The server stops.
    Stop,
    /// Closed, or lost.
    Over,
}

async fn next(socket: &mut AsyncSocket, tick: Instant) -> Next {
    let draining = pin!(socket.draining());
    // Neither loses a message when the other is first.
    match select(pin!(timeout_at(tick, socket.recv())), draining).await {
        Either::Left((Ok(Ok(Some(message))), _)) => Next::Said(message),
        Either::Left((Ok(_), _)) => Next::Over,
        Either::Left((Err(_), _)) => Next::Tick,
        Either::Right(_) => Next::Stop,
    }
}

/// Runs on the connection's own core. A client that does not read holds it up, and nobody else.
async fn count_down(_: OwnedRequest, mut socket: AsyncSocket) -> Result<(), SendError> {
    socket.send("counting down from 10; say another number").await?;
    let (mut left, mut tick) = (10, Instant::now() + TICK);
    loop {
        match next(&mut socket, tick).await {
            Next::Said(message) => match message.as_text().unwrap_or_default().trim().parse::<u8>()
            {
                Ok(number) => left = number,
                Err(_) => socket.send("that is no number up to 255").await?,
            },
            Next::Tick if left == 0 => {
                socket.close(CloseCode::NORMAL, "lift-off");
                return Ok(());
            }
            Next::Tick => {
                socket.send(left.to_string()).await?;
                (left, tick) = (left - 1, tick + TICK);
            }
            Next::Stop => {
                socket.send(format!("{left} were left")).await?;
                socket.close(CloseCode::RESTART, "the server stops");
                return Ok(());
            }
            Next::Over => return Ok(()),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let run = async |request, socket| drop(count_down(request, socket).await);
    let server = Server::new(Config::listening(listen))
        .route("/", Resource::new().upgrade(WebSocket::new().asynchronous(run)).upgrade_required())
        .start()?;
    let (stopper, mut signals) = (server.stopper(), Signals::new([SIGINT, SIGTERM])?);
    std::thread::spawn(move || signals.forever().next().map(|_| stopper.stop()));
    println!("listening on {}; try", server.addresses()[0]);
    println!("  python3 -m websockets ws://{}/", server.addresses()[0]);
    println!("and end the server before it is at nought");
    Ok(server.join()?)
}
