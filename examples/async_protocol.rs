//! An async handler, for what has to be waited for. `record`: whatever the client sends is kept in
//! a file, written to it from the very buffers it was received in, until the client ends its
//! direction or is silent for a while.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_uring::fs::File;
use upring::{Config, OwnedRequest, Protocol, Resource, Server, Upgraded};

/// Silence after which a recording is over.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Runs on the connection's own core, in its tokio-uring runtime. Dropping `upgraded` closes the
/// connection in order.
async fn record(request: OwnedRequest, mut upgraded: Upgraded) {
    let asked_for = String::from_utf8_lossy(request.view().target()).into_owned();
    if let Err(error) = try_record(&mut upgraded).await {
        eprintln!("a recording at {asked_for} ended early: {error}");
    }
}

async fn try_record(upgraded: &mut Upgraded) -> io::Result<()> {
    let path = next_path();
    let file = File::create(&path).await?;
    upgraded.send(format!("recording to {}\n", path.display())).await?;
    let mut end = 0;
    // While a write is under way nothing is received here: the client is held, not a heap filled.
    while let Ok(received) = timeout(SILENCE_MAX, upgraded.recv()).await {
        let Some(lease) = received? else { break };
        let len = lease.len() as u64;
        let (written, _lease) = file.write_all_at(lease, end).await;
        written?;
        end += len;
    }
    file.sync_all().await?;
    file.close().await?;
    upgraded.send(format!("{end} bytes are safe\n")).await?;
    Ok(())
}

fn next_path() -> PathBuf {
    static RECORDINGS: AtomicU32 = AtomicU32::new(1);
    let number = RECORDINGS.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("upring-{}-{number}.record", std::process::id()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let recorder = Protocol::asynchronous("record", record);
    let server = Server::new(Config::listening(listen))
        .route("/record", Resource::new().upgrade(recorder).upgrade_required())
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; try");
    println!(
        "  (printf 'GET /record HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: record\\r\\n\\r\\n'; date) \\"
    );
    println!("    | nc -N {} {}", address.ip(), address.port());
    Ok(server.join()?)
}
