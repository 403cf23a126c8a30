//! The opponent: a server wholly on tokio-uring's public API, with its best flags.
//!
//! One thread and one ring a worker, one task and two buffers a connection, nothing allocated while
//! a connection lives. What it answers is in `answer.rs`, shared with the epoll server. It has no
//! timeouts and drains nothing: it is here to be fast, not to be deployed.
//!
//! A burst of requests that finds it awake costs it four system calls: `epoll_wait` returns because
//! the ring's file became readable, the tasks queue their writes, parking submits them
//! (`io_uring_enter`), `epoll_wait` returns at once with their completions, the tasks queue their
//! next reads, and parking submits those. A burst that finds it asleep costs six: the completions'
//! task work interrupts `epoll_wait` (EINTR), tokio parks anew, which submits nothing, and only the
//! next `epoll_wait` reports the ring. No flag of the builder changes that.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::answer::{Answers, INPUT_BYTES, Next};

#[path = "../answer.rs"]
mod answer;
#[path = "../listen.rs"]
#[allow(unsafe_code)] // reads the coarse clock, which the standard library does not offer
mod listen;

// Every server of a comparison allocates by the same allocator, so that the figures are about
// loops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Submissions a worker may have queued before tokio-uring has to submit early.
const RING_ENTRIES: u32 = 4096;
/// Bytes that hold one answer; the output of a client that pipelines grows once and stays so.
const ANSWER_BYTES: usize = 128;

/// The tokio-uring baseline: `GET /plaintext`, and `GET /echo` with `Upgrade: echo`.
#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Worker threads, each with its own listener and ring.
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let listeners = (0..options.workers)
        .map(|_| listen::listen(options.listen))
        .collect::<io::Result<Vec<_>>>()?;
    let workers: Vec<_> =
        listeners.into_iter().map(|listener| thread::spawn(move || run_worker(listener))).collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    Ok(())
}

fn run_worker(listener: std::net::TcpListener) {
    let mut ring = tokio_uring::uring_builder();
    // Completions wait for our next system call instead of interrupting us, and one thread is all
    // that ever submits. DEFER_TASKRUN is out of reach: epoll never sees the fd of such a ring
    // become readable.
    ring.setup_single_issuer().setup_coop_taskrun();
    tokio_uring::builder()
        .entries(RING_ENTRIES)
        .uring_builder(&ring)
        .start(accept(TcpListener::from_std(listener)));
}

async fn accept(listener: TcpListener) {
    let answers = Rc::new(RefCell::new(Answers::new(listen::unix_second())));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Rc::clone(&answers);
                // A connection that fails hurts nobody but its client, who sees it end.
                tokio_uring::spawn(
                    async move { serve(stream, &answers).await.unwrap_or_default() },
                );
            }
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, answers: &RefCell<Answers>) -> io::Result<()> {
    let mut input = Vec::with_capacity(INPUT_BYTES);
    let mut output = Vec::with_capacity(ANSWER_BYTES);
    loop {
        let filled = input.len();
        let (received, slice) = stream.read(input.slice(filled..)).await;
        input = slice.into_inner();
        if received? == 0 {
            return Ok(());
        }

        output.clear();
        let (used, next) = {
            let mut answers = answers.borrow_mut();
            answers.refresh(listen::unix_second());
            answers.answer(&input, &mut output)
        };
        input.drain(..used);
        if !output.is_empty() {
            let (sent, buffer) = stream.write_all(output).await;
            output = buffer;
            sent?;
        }

        match next {
            Next::Head => {}
            Next::Echo => return echo(&stream, input).await,
            Next::Close => return Ok(()),
        }
    }
}

/// Sends back what comes, from the buffer it came in.
async fn echo(stream: &TcpStream, mut buffer: Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        let (received, filled) = stream.read(buffer).await;
        if received? == 0 {
            return Ok(());
        }
        let (sent, emptied) = stream.write_all(filled).await;
        buffer = emptied;
        sent?;
    }
}
