//! A WebSocket server on fastwebsockets that sends every message back. The opening handshake is
//! hyper's; behind it the crate works on the bare socket, not on hyper's boxed one.
//!
//! The crate writes each message as soon as it is sent. `--corked` has it write into a buffer that
//! leaves when nothing more is to be read: the best that can be made of it for clients that send
//! several messages at once, at the price of a copy.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use clap::Parser;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;

/// Echoes WebSocket messages by fastwebsockets, at every path.
#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8084")]
    listen: SocketAddr,
    /// Write what is sent when nothing more is to be read.
    #[arg(long)]
    corked: bool,
}

/// Bytes that wait at most for what else is to be read.
const CORKED_BYTES_MAX: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let Options { listen, corked } = Options::parse();
    upring_peers::run(listen, move |stream| async move {
        let service = service_fn(move |mut request| async move {
            let (response, upgraded) = upgrade(&mut request)?;
            tokio::spawn(unconstrained(async move {
                // A connection that fails hurts nobody but its client, who sees it end.
                let _ = serve(upgraded, corked).await;
            }));
            Ok::<_, WebSocketError>(response)
        });
        let stream = TokioIo::new(stream);
        let _ = http1::Builder::new().serve_connection(stream, service).with_upgrades().await;
    })
}

async fn serve(upgraded: UpgradeFut, corked: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let upgraded = upgraded.await?.into_inner().into_inner();
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| "it is not our socket")?;
    if !parts.read_buf.is_empty() {
        return Err("a client sends nothing before it was answered".into());
    }
    let stream = parts.io.into_inner();
    if corked {
        let writer = BufWriter::with_capacity(CORKED_BYTES_MAX, stream);
        Ok(echo(Corked(writer)).await?)
    } else {
        Ok(echo(stream).await?)
    }
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), WebSocketError> {
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    socket.set_writev(true);
    socket.set_auto_apply_mask(true);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            // The crate has answered it.
            OpCode::Close => return Ok(socket.into_inner().shutdown().await?),
            _ => {}
        }
    }
}

/// A socket whose output leaves before it is read.
struct Corked(BufWriter<TcpStream>);

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(context))?;
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
