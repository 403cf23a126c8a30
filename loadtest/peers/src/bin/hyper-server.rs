//! HTTP/1.1 and Upgrade on hyper: `GET /plaintext` answers what upring answers, `GET /echo` switches to
//! `echo` by hyper's upgrade and sends every byte back, those that came with the request first.
//!
//! Behind the switch the loop is on the bare socket, not on hyper's boxed one, and reads into one buffer
//! for all connections, as the `epoll` opponent does. What differs in the answers is hyper's own: names of
//! fields are in lower case, and Date is the last.
//!
//! `--pipeline-flush` has answers to pipelined requests leave together, each copied behind the one
//! before: hyper's best for plain requests. It is a choice and not the rule, because hyper 1.12 then holds
//! the 101 back, too, while bytes wait behind the request, and hands the connection over without it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use clap::Parser;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

/// Answers and switches by hyper.
#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Write answers to pipelined requests at once. Early bytes make this lose the 101.
    #[arg(long)]
    pipeline_flush: bool,
    /// Speak TLS by tokio-rustls: a certificate and its key, two files in PEM.
    #[arg(long, num_args = 2, value_names = ["CERTIFICATE", "KEY"])]
    tls: Vec<PathBuf>,
    /// Who does the arithmetic of it: aws-lc, which is tokio-rustls' default, or ring.
    #[arg(long, default_value = "aws-lc")]
    provider: String,
}

/// Bytes one read of a switched connection may bring.
const INPUT_BYTES: usize = 64 * 1024;

thread_local! {
    /// One for all switched connections, as it is only held while one of them reads and writes.
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; INPUT_BYTES].into());
}

const NAME: HeaderValue = HeaderValue::from_static("upring");

fn main() -> io::Result<()> {
    let Options { listen, pipeline_flush, tls, provider } = Options::parse();
    if let [certificate, key] = &tls[..] {
        let acceptor = acceptor(certificate, key, &provider)?;
        return upring_peers::run(listen, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                serve::<TlsStream<TcpStream>>(stream, pipeline_flush).await;
            }
        });
    }
    upring_peers::run(listen, move |stream| serve::<TcpStream>(stream, pipeline_flush))
}

/// What a connection is on. In TLS what is written is sealed at once, and the rest of it is sent by
/// a flush.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether an end has to be said, besides FIN.
    const SAYS_CLOSE: bool;

    /// Writes as much as can be written now.
    fn write_now(&mut self, bytes: &[u8], context: &mut Context<'_>) -> io::Result<usize>;
}

impl Stream for TcpStream {
    const SAYS_CLOSE: bool = false;

    fn write_now(&mut self, bytes: &[u8], _context: &mut Context<'_>) -> io::Result<usize> {
        match self.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }
}

impl Stream for TlsStream<TcpStream> {
    const SAYS_CLOSE: bool = true;

    fn write_now(&mut self, bytes: &[u8], context: &mut Context<'_>) -> io::Result<usize> {
        match Pin::new(self).poll_write(context, bytes) {
            Poll::Pending => Ok(0),
            Poll::Ready(written) => written,
        }
    }
}

async fn serve<S: Stream>(stream: S, pipeline_flush: bool) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answer::<S>(request)));
    // A connection that fails hurts nobody but its client, who sees it end.
    let _ = http1::Builder::new()
        .pipeline_flush(pipeline_flush)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn acceptor(certificate: &Path, key: &Path, provider: &str) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let (provider, ticketer) = match provider {
        "ring" => (crypto::ring::default_provider(), crypto::ring::Ticketer::new()),
        _ => (crypto::aws_lc_rs::default_provider(), crypto::aws_lc_rs::Ticketer::new()),
    };
    let mut config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ticketer.map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn answer<S: Stream>(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/plaintext") => plaintext(),
        (&Method::GET, "/echo") if lists(request.headers(), UPGRADE, "echo") => {
            switch::<S>(request)
        }
        _ => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn plaintext() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"Hello, World!")));
    response.headers_mut().insert(SERVER, NAME);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn lists(fields: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = fields.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|member| member.trim().eq_ignore_ascii_case(token))
}

fn switch<S: Stream>(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(unconstrained(async move {
        let _ = echo::<S>(upgrade).await;
    }));
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(SERVER, NAME);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
    response
}

async fn echo<S: Stream>(upgrade: OnUpgrade) -> io::Result<()> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded.downcast::<TokioIo<S>>();
    let Parts { io, read_buf: early, .. } =
        parts.map_err(|_| io::Error::other("it is not our socket"))?;
    let mut stream = io.into_inner();
    stream.write_all(&early).await?;
    stream.flush().await?;
    drop(early);
    while let Some(unsent) = poll_fn(|context| echo_once(&mut stream, context)).await? {
        stream.write_all(&unsent).await?;
        stream.flush().await?;
    }
    if S::SAYS_CLOSE { stream.shutdown().await } else { Ok(()) }
}

/// Reads once and sends it back; what the socket did not take of it, or nothing at the end.
fn echo_once<S: Stream>(
    stream: &mut S,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<Vec<u8>>>> {
    INPUT.with_borrow_mut(|input| {
        let mut bytes = ReadBuf::new(input);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut bytes))?;
        if bytes.filled().is_empty() {
            return Poll::Ready(Ok(None));
        }
        let sent = stream.write_now(bytes.filled(), context)?;
        Poll::Ready(Ok(Some(bytes.filled()[sent..].to_vec())))
    })
}
