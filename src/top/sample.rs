//! One scrape: asked for over a connection of its own, and read as far as `top` needs it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use upring::config::ListenAddress;

/// How long an admin listener may take to connect, and for each piece of its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of an answer: a thousand cores have fewer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a server had counted at one time: samples by name and labels, as the text has them.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    values: BTreeMap<String, f64>,
}

impl Sample {
    /// Asks an admin listener.
    ///
    /// # Errors
    /// It does not answer, or not with metrics.
    pub(super) fn take(address: &ListenAddress) -> io::Result<Sample> {
        let mut stream = connect(address)?;
        let host = match address {
            ListenAddress::Tcp(address) => address.to_string(),
            ListenAddress::Unix(_) => "localhost".to_owned(),
        };
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain; version=0.0.4\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        let text = match answer.split_once("\r\n\r\n") {
            Some((head, text)) if head.starts_with("HTTP/1.1 200 ") => text,
            _ => return Err(io::Error::other(told(&answer))),
        };
        if !text.contains("\nupring_workers ") {
            return Err(io::Error::other("these are not the metrics of upring"));
        }
        Ok(Sample::read(text, Instant::now()))
    }

    /// Reads the text format of Prometheus; what is no sample is passed over.
    pub(super) fn read(text: &str, at: Instant) -> Sample {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        let values =
            samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Sample { at, values: values.collect() }
    }

    /// The one without labels; 0 if there is none.
    pub(super) fn value(&self, name: &str) -> f64 {
        self.values.get(name).copied().unwrap_or(0.0)
    }

    /// Those of a family: the values of their labels, in the order of the text, and how much.
    pub(super) fn labelled(&self, name: &str) -> Vec<(Vec<&str>, f64)> {
        let start = format!("{name}{{");
        let family =
            self.values.range(start.clone()..).take_while(|(key, _)| key.starts_with(&start));
        family.map(|(key, value)| (labels(&key[start.len()..]), *value)).collect()
    }

    /// All of a family together.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.labelled(name).iter().map(|(_, value)| value).sum()
    }
}

/// A connection that waits for nothing longer than is bearable.
fn connect(address: &ListenAddress) -> io::Result<Socket> {
    let (domain, at) = match address {
        ListenAddress::Tcp(address) => (Domain::for_address(*address), (*address).into()),
        ListenAddress::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(&at, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The values of `a="b",c="d"}`. Names of protocols are tokens, which hold no quotation mark.
fn labels(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// What an answer that is none says.
fn told(answer: &str) -> String {
    match answer.lines().next() {
        Some(line) if line.starts_with("HTTP/") => format!("it answers {line}"),
        _ => "it does not answer in HTTP".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a_total A.\na_total{token=\"\",result=\"x\"} 1\n\
                    a_total{token=\"t\",result=\"y\"} 2.5\nab 7\nb{c=\"d\"} nonsense\n";
        let sample = Sample::read(text, Instant::now());
        let expected = vec![(vec!["", "x"], 1.0), (vec!["t", "y"], 2.5)];
        assert_eq!(sample.labelled("a_total"), expected);
        assert_eq!((sample.sum("a_total"), sample.value("ab")), (3.5, 7.0));
        assert_eq!((sample.sum("b"), sample.value("none")), (0.0, 0.0));
    }
}
