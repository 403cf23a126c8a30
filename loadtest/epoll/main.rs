//! The other opponent: the same server on epoll, as plainly as it can be fast.
//!
//! A worker sleeps in `epoll_wait`, receives from each ready socket into one buffer of its own, and
//! sends the answers of that receive in one call. A connection keeps bytes only when a head is cut
//! or a send falls short. What it answers is in `answer.rs`, shared with the tokio-uring baseline.
//! It has no timeouts and drains nothing.
//!
//! A burst of n requests costs 1 + 2n system calls: that is epoll's price, and io_uring's reason to
//! be.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use clap::Parser;

use crate::answer::{Answers, INPUT_BYTES, Next};
use crate::poll::{Poll, Ready};

#[path = "../answer.rs"]
mod answer;
#[path = "../listen.rs"]
#[allow(unsafe_code)] // reads the coarse clock, which the standard library does not offer
mod listen;
#[path = "../poll.rs"]
#[allow(unsafe_code)] // calls epoll, which the standard library does not offer
mod poll;

// Every server of a comparison allocates by the same allocator, so that the figures are about
// loops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sockets one `epoll_wait` reports at most.
const READY_MAX: usize = 1024;
/// Bytes one receive of a switched connection may bring; the buffer is one for the whole worker, so
/// it can be large.
const RECEIVE_BYTES: usize = 64 * 1024;

/// The epoll opponent: `GET /plaintext`, and `GET /echo` with `Upgrade: echo`.
#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8082")]
    listen: SocketAddr,
    /// Worker threads, each with its own listener and epoll instance.
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let workers = (0..options.workers)
        .map(|_| Worker::new(options.listen))
        .collect::<io::Result<Vec<_>>>()?;
    let workers: Vec<_> =
        workers.into_iter().map(|worker| thread::spawn(move || worker.run())).collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

struct Worker {
    listener: TcpListener,
    poll: Poll,
    answers: Answers,
    /// By descriptor, which is also the token; descriptors are small and reused.
    connections: Vec<Option<Connection>>,
    scratch: Scratch,
}

/// Buffers lent to each connection in turn.
struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Worker {
    fn new(address: SocketAddr) -> io::Result<Worker> {
        let listener = listen::listen(address)?;
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(&listener, token_of(&listener))?;
        Ok(Worker {
            listener,
            poll,
            answers: Answers::new(listen::unix_second()),
            connections: Vec::new(),
            scratch: Scratch {
                input: vec![0; RECEIVE_BYTES],
                output: Vec::with_capacity(RECEIVE_BYTES),
            },
        })
    }

    fn run(mut self) -> io::Result<()> {
        let listener = token_of(&self.listener);
        let mut places = vec![Ready::NONE; READY_MAX];
        loop {
            let ready = self.poll.wait(&mut places, None)?;
            self.answers.refresh(listen::unix_second());
            for &event in ready {
                if event.token() == listener {
                    self.accept()?;
                } else {
                    self.serve(event);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.keep(stream)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    eprintln!("accept: {error}");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn keep(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let token = token_of(&stream);
        self.poll.add(&stream, token)?;
        if self.connections.len() <= token {
            self.connections.resize_with(token + 1, || None);
        }
        self.connections[token] = Some(Connection::new(stream));
        Ok(())
    }

    fn serve(&mut self, event: Ready) {
        let place = &mut self.connections[event.token()];
        // An event of this wait may be of a connection that an earlier one closed.
        let Some(connection) = place else { return };
        // Closing is dropping; whether the client failed or finished is all the same to a load
        // test's server.
        if !connection.turn(event, &self.answers, &mut self.scratch).unwrap_or(false) {
            *place = None;
        }
    }
}

struct Connection {
    stream: TcpStream,
    next: Next,
    /// The beginning of a head that was cut.
    partial: Vec<u8>,
    /// Output the socket did not take; while there is some, nothing is received.
    unsent: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection { stream, next: Next::Head, partial: Vec::new(), unsent: Vec::new() }
    }

    /// Sends what waits and receives what came. False: the connection is over.
    fn turn(&mut self, event: Ready, answers: &Answers, scratch: &mut Scratch) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            if !event.writable() {
                return Ok(true);
            }
            let waiting = std::mem::take(&mut self.unsent);
            self.send(&waiting)?;
        } else if !event.readable() {
            return Ok(true);
        }
        while self.unsent.is_empty() {
            if self.next == Next::Close {
                return Ok(false);
            }
            match self.receive(answers, scratch) {
                Ok(Received::All) => return Ok(true),
                Ok(Received::Some) => {}
                Ok(Received::End) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// One receive, and one send of all it deserves.
    fn receive(&mut self, answers: &Answers, scratch: &mut Scratch) -> io::Result<Received> {
        if self.next == Next::Echo {
            let received = self.stream.read(&mut scratch.input)?;
            self.send(&scratch.input[..received])?;
            return Ok(Received::of(received, RECEIVE_BYTES));
        }
        let kept = self.partial.len();
        let space = &mut scratch.input[..INPUT_BYTES];
        let received = self.stream.read(&mut space[kept..])?;
        space[..kept].copy_from_slice(&self.partial);

        let input = &scratch.input[..kept + received];
        let mut output = std::mem::take(&mut scratch.output);
        output.clear();
        let (used, next) = answers.answer(input, &mut output);
        self.partial.clear();
        self.partial.extend_from_slice(&input[used..]);
        self.next = next;
        let sent = self.send(&output);
        scratch.output = output;
        sent?;
        if next == Next::Close && self.unsent.is_empty() {
            return Ok(Received::End);
        }
        Ok(Received::of(received, INPUT_BYTES - kept))
    }

    /// Keeps what the socket does not take.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(bytes);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a receive says about what still waits.
enum Received {
    /// It filled its buffer: there may be more.
    Some,
    /// It fell short: whatever comes next brings a new edge.
    All,
    /// The client has finished.
    End,
}

impl Received {
    fn of(bytes: usize, space: usize) -> Received {
        match bytes {
            0 => Received::End,
            _ if bytes < space => Received::All,
            _ => Received::Some,
        }
    }
}

fn token_of(socket: &impl AsRawFd) -> usize {
    socket.as_raw_fd().cast_unsigned() as usize
}
