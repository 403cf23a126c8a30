//! A WebSocket server on tokio-tungstenite that sends every message back.
//!
//! Answers are written when nothing more is to be read, all at once, as `StreamExt::forward` in the
//! crate's own echo server does, but without its lock.

use std::io;
use std::net::SocketAddr;

use clap::Parser;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Echoes WebSocket messages by tokio-tungstenite, at every path.
#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8083")]
    listen: SocketAddr,
    /// Bytes of a connection's read buffer. The crate's own default, 128 KiB, is filled with zeroes
    /// for each read.
    #[arg(long, default_value_t = 8 * 1024)]
    read_buffer: usize,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let config = WebSocketConfig::default().read_buffer_size(options.read_buffer);
    upring_peers::run(options.listen, move |stream| async move {
        // A connection that fails hurts nobody but its client, who sees it end.
        let _ = echo(stream, config).await;
    })
}

async fn echo(stream: TcpStream, config: WebSocketConfig) -> Result<(), Error> {
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    loop {
        let next = match socket.next().now_or_never() {
            Some(next) => next,
            None => {
                socket.flush().await?;
                socket.next().await
            }
        };
        match next {
            Some(Ok(message)) if message.is_text() || message.is_binary() => {
                socket.feed(message).await?;
            }
            // A Pong or a Close is answered by the crate.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}
