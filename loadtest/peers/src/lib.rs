//! What the peers share: an allocator, one thread of tokio, a listener. What they do with a
//! connection is in `bin/`. They have no timeouts and drain nothing: they are here to be fast.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::unconstrained;

// Every server of a comparison allocates by the same allocator, so that the figures are about
// loops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves each connection of `address` in a task of this thread, until accepting fails.
///
/// A task is not interrupted by tokio's budget: that costs a little, and the socket bounds what is
/// done at once.
///
/// # Errors
/// The kernel refuses the runtime, the listener or a connection.
pub fn run<Task>(address: SocketAddr, serve: impl Fn(TcpStream) -> Task) -> io::Result<()>
where
    Task: Future<Output = ()> + Send + 'static,
{
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(unconstrained(serve(stream)));
        }
    })
}
