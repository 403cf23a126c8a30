//! Files of a directory over HTTP: a handler that ships. It opens and looks at files where it is
//! called, as web servers do: what is in the page cache does not block, and content that is not is
//! read by the runtime.
//!
//! ```text
//!   path ──► open inside the root ──► variant (br, gzip) ──► condition ──► range ──► answer | transfer
//! ```
//!
//! Nothing outside the directory is ever opened, and no dot file: see `root`.

mod condition;
mod encoding;
mod path;
mod range;
mod root;
mod transfer;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use crate::http::{Method, Request, Response, Status, normal_path};
use crate::resource::{Answer, Reply, Takes};
use condition::{Validators, Verdict};
use encoding::{Coding, codings};
use range::Range;
use root::Root;
use transfer::{Transfer, read_cached};

/// Content that is answered at once if the page cache has it. More goes out piece by piece.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// Serves the files of one directory: index files, conditional and single-range requests, content
/// types, and `.br` and `.gz` variants that lie beside a file.
///
/// Dot files, and whatever lies in a directory that begins with a dot, do not exist for it.
///
/// A route in front of it, for a path of a file, is not evaded by another spelling of the path: it
/// is decoded where routing knows it as the same, and dot segments, empty ones and encoded slashes
/// name no file. What routing takes for another character and files do not, a reserved one such as
/// `!` that may be encoded, should not be in a path that is to be shielded.
///
/// Symbolic links are followed if they are relative, never leave the directory on their way and lead
/// to nothing that is or lies in a dot file: not an absolute one to a file inside, nor the `..data`
/// of a volume of Kubernetes. Finding out takes a few system calls more, and `/proc`.
///
/// A tag (ETag) is made of the time of modification, in nanoseconds, and the size. Replicas agree on
/// it if they keep the times of their files; a file that is replaced by one of the same time and
/// size keeps its tag, and clients what they have.
///
/// ```no_run
/// use upring::files::Files;
/// use upring::{Config, Resource, Server};
///
/// let files = Files::new("public")?.beneath("/static/").cache_control("max-age=3600");
/// let server = Server::new(Config::default()).route("/static/*", Resource::new().get(files));
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Files {
    root: Arc<Root>,
    prefix: Box<str>,
    index: Box<str>,
    cache_control: Option<Box<str>>,
    has_variants: bool,
}

impl Files {
    /// The files of `directory`, which is opened now: a directory that takes its name later is
    /// another one.
    ///
    /// # Errors
    /// It cannot be opened, or the kernel does not resolve paths beneath a directory.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Files> {
        Ok(Files {
            root: Arc::new(Root::new(directory.as_ref())?),
            prefix: "/".into(),
            index: "index.html".into(),
            cache_control: None,
            has_variants: true,
        })
    }

    /// The part of the path that is not the file's: what the route's pattern begins with. `/` if
    /// nothing is said.
    #[must_use]
    pub fn beneath(mut self, prefix: &str) -> Files {
        self.prefix = String::from_utf8_lossy(&normal_path(prefix.as_bytes())).into();
        self
    }

    /// The file that stands for a directory, instead of `index.html`.
    #[must_use]
    pub fn index(mut self, name: &str) -> Files {
        self.index = name.into();
        self
    }

    /// The Cache-Control field of every file.
    ///
    /// # Panics
    /// If it holds a control byte.
    #[must_use]
    pub fn cache_control(mut self, value: &str) -> Files {
        let checked = Response::new(Status::OK).with_field("Cache-Control", value);
        assert!(checked.is_ok(), "a value holds no control byte: {value:?}");
        self.cache_control = Some(value.into());
        self
    }

    /// Serves no `.br` and `.gz` variants in place of a file.
    #[must_use]
    pub fn without_variants(mut self) -> Files {
        self.has_variants = false;
        self
    }

    /// The file of a request, or the answer there is instead.
    fn find(&self, request: &Request<'_>) -> Result<Found, Response> {
        // As it was routed.
        let path = normal_path(request.path());
        let rest = path.strip_prefix(self.prefix.as_bytes()).ok_or_else(missing)?;
        let mut path = path::resolve(rest).ok_or_else(missing)?;
        let is_directory = rest.is_empty() || rest.ends_with(b"/");
        if is_directory {
            path.push(&*self.index);
        }
        let (file, stat) = self.open(&path).map_err(|errno| refusal(errno, request))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(self.best(request, &path, file, stat)),
            FileType::Directory if !is_directory => Err(with_slash(request)),
            _ => Err(missing()),
        }
    }

    /// The variant of a file that the client likes best.
    fn best(&self, request: &Request<'_>, path: &Path, file: OwnedFd, stat: Stat) -> Found {
        let content_type = content_type(path);
        if self.has_variants {
            for coding in codings(*request) {
                let mut variant = path.as_os_str().to_owned();
                variant.push(coding.extension());
                if let Ok((file, stat)) = self.open(Path::new(&variant))
                    && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                {
                    return Found { file, stat, coding: Some(coding), content_type };
                }
            }
        }
        Found { file, stat, coding: None, content_type }
    }

    fn open(&self, path: &Path) -> Result<(OwnedFd, Stat), Errno> {
        let file = self.root.open(path)?;
        let stat = fstat(&file)?;
        Ok((file, stat))
    }

    /// Status and fields of an answer with this file.
    fn head(&self, status: Status, found: &Found, validators: &Validators) -> Response {
        let mut fields = vec![
            ("ETag", validators.etag.clone()),
            ("Last-Modified", httpdate::fmt_http_date(validators.modified)),
        ];
        if self.has_variants {
            fields.push(("Vary", "Accept-Encoding".into()));
        }
        if let Some(value) = &self.cache_control {
            fields.push(("Cache-Control", value.to_string()));
        }
        if status != Status::NOT_MODIFIED {
            fields.push(("Content-Type", found.content_type.clone()));
            fields.push(("Accept-Ranges", "bytes".into()));
            fields.push(("X-Content-Type-Options", "nosniff".into()));
            if let Some(coding) = found.coding {
                fields.push(("Content-Encoding", coding.name().into()));
            }
        }
        fields.into_iter().fold(Response::new(status), with)
    }

    fn respond(&self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Response> {
        let found = self.find(request)?;
        let length = u64::try_from(found.stat.st_size).unwrap_or(0);
        let validators = found.validators();
        match condition::judge(*request, &validators) {
            Verdict::Send => {}
            Verdict::NotModified => {
                return Err(self.head(Status::NOT_MODIFIED, &found, &validators));
            }
            Verdict::Failed => {
                let text = "The file is not the one the request is about.\n";
                return Err(Response::text(Status::PRECONDITION_FAILED, text));
            }
        }
        let (response, start, bytes) = match range::read(*request, &validators, length) {
            Range::Whole => (self.head(Status::OK, &found, &validators), 0, length),
            Range::Part { first, last } => {
                let head = self.head(Status::PARTIAL_CONTENT, &found, &validators);
                let part = format!("bytes {first}-{last}/{length}");
                (with(head, ("Content-Range", part)), first, last - first + 1)
            }
            Range::Unsatisfiable => {
                let text = "The file is shorter than that.\n";
                let response = Response::text(Status::RANGE_NOT_SATISFIABLE, text);
                return Err(with(response, ("Content-Range", format!("bytes */{length}"))));
            }
        };
        let is_short = bytes <= WHOLE_BYTES_MAX && request.method() != Method::Head;
        match read_cached(&found.file, start, bytes) {
            Some(content) if is_short => reply.send(&response.with_body(content)),
            _ => reply.stream(Transfer::new(found.file, response, start, bytes, request.method())),
        }
        Ok(())
    }
}

impl Answer for Files {
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn answer(&self, request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        if let Err(response) = self.respond(request, reply) {
            reply.send(&response);
        }
    }
}

/// An open file.
struct Found {
    file: OwnedFd,
    stat: Stat,
    coding: Option<Coding>,
    content_type: String,
}

impl Found {
    fn validators(&self) -> Validators {
        let Stat { st_mtime, st_mtime_nsec, st_size, .. } = self.stat;
        let coding = self.coding.map_or("", Coding::extension);
        let seconds = u64::try_from(st_mtime).unwrap_or(0);
        Validators {
            // Size and nanoseconds: a file that is written anew has another one, unless somebody sets
            // its time back.
            etag: format!("\"{st_mtime:x}.{st_mtime_nsec:x}-{st_size:x}{coding}\""),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }
}

fn with(response: Response, (name, value): (&str, String)) -> Response {
    response.with_field(name, value).expect("the values made here hold no control byte")
}

fn missing() -> Response {
    Response::text(Status::NOT_FOUND, "There is no such file.\n")
}

/// What cannot be opened is as good as not there, but for what the operator has to mend.
fn refusal(errno: Errno, request: &Request<'_>) -> Response {
    match errno {
        Errno::ACCESS => {
            let target = String::from_utf8_lossy(request.target());
            tracing::warn!("{target}: the file may not be read by this process");
            missing()
        }
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => {
            tracing::error!("a file could not be opened: {errno}");
            Response::text(Status::SERVICE_UNAVAILABLE, "The server is out of descriptors.\n")
        }
        // Not there, outside of the root, a loop of links, a name too long, no directory.
        _ => missing(),
    }
}

/// A directory without its slash: its relative links would lead elsewhere.
fn with_slash(request: &Request<'_>) -> Response {
    // Two slashes in front would name another host.
    let path = request.path();
    if path.starts_with(b"//") {
        return missing();
    }
    let mut location = [path, b"/"].concat();
    if let Some(query) = request.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let response = Response::new(Status::PERMANENT_REDIRECT);
    response.with_field("Location", location).expect("a target holds no control byte")
}

fn content_type(path: &Path) -> String {
    match mime_guess::from_path(path).first_raw() {
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}
