//! Looks whether the files of certificates have changed, for listeners that ask for it. It never waits: who
//! calls says how often.
//!
//! ```text
//!   as served ──► another time, length or inode ──► the same at the next look ──► read ──► served, or refused once
//! ```

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Acceptor, CertificateError, Expiry};
use crate::config::{Pem, TlsSettings};

/// What tells a file from what it was before: inode, length and time of its last change. None of one that
/// cannot be found.
pub(super) type Stamp = Option<(u64, u64, SystemTime)>;

/// Each file that the settings name, as it is now.
pub(super) fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let file = |pem: &Pem| match pem {
        Pem::File(path) => Some(path.clone()),
        Pem::Text(_) => None,
    };
    let identities = settings.identities.iter();
    let own = identities.flat_map(|one| [file(&one.certificate), file(&one.key), one.ocsp.clone()]);
    let files = own.chain([settings.client_roots.as_ref().and_then(file)]).flatten();
    files.map(|path| stamp(&path)).collect()
}

/// Of what a link leads to: certbot and Kubernetes change nothing but links.
fn stamp(path: &PathBuf) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.modified().ok()?))
}

/// The listeners of a server whose files are looked at.
#[derive(Debug)]
pub struct Watch(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    acceptor: Arc<Acceptor>,
    /// As of the last look.
    seen: Vec<Stamp>,
    /// As of the last time that they had changed.
    tried: Vec<Stamp>,
}

impl Watch {
    pub(crate) fn of(acceptors: &[Arc<Acceptor>]) -> Watch {
        let asking = acceptors.iter().filter(|acceptor| acceptor.settings().watch);
        let watched = asking.map(|acceptor| {
            let (seen, tried) = (acceptor.stamps(), acceptor.stamps());
            Watched { acceptor: Arc::clone(acceptor), seen, tried }
        });
        Watch(watched.collect())
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads anew, and uses from now on, what has changed and has been so since the last look: who writes
    /// a certificate and then its key is not taken at half of it. What came of each listener's, once a
    /// change: what it has now, or why it stays with what it had.
    pub fn look(&mut self) -> Vec<Result<Vec<Expiry>, CertificateError>> {
        self.0.iter_mut().filter_map(Watched::look).collect()
    }
}

impl Watched {
    fn look(&mut self) -> Option<Result<Vec<Expiry>, CertificateError>> {
        let now = stamps(self.acceptor.settings());
        if now != self.seen {
            self.seen = now;
            return None;
        }
        if now == std::mem::replace(&mut self.tried, now.clone()) || now == self.acceptor.stamps() {
            return None;
        }
        let read = self.acceptor.read_anew();
        Some(read.map(|read| {
            self.acceptor.renew(read);
            self.acceptor.expiries()
        }))
    }
}
