//! Files over loopback, on both hosts: what is served, what is not, and what becomes of large ones.

#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use loopback::{config, connect, pattern, read_head, read_to_end, start, wait_until};
use upring::files::Files;
use upring::http::Request;
use upring::{Config, HostKind, Resource, Running, Server, returning};

/// A directory that is gone when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("upring-files-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("public/sub")).expect("a temporary directory");
        let directory = Directory(path);
        directory.put("secret", b"secret");
        directory.put("public/index.html", b"<h1>index</h1>");
        directory.put("public/a b.txt", b"0123456789");
        directory.put("public/.hidden", b"hidden");
        directory.put("public/app.js", b"let plain;");
        directory.put("public/app.js.br", b"brotli");
        directory.put("public/app.js.gz", b"gzip");
        directory.put("public/sub/page.html", b"page");
        directory.put("public/empty", b"");
        let public = directory.0.join("public");
        symlink("../secret", public.join("escape")).expect("a link");
        symlink("sub/page.html", public.join("inside")).expect("a link");
        symlink("loop", public.join("loop")).expect("a link");
        directory
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).expect("a temporary file");
    }

    fn public(&self) -> PathBuf {
        self.0.join("public")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve(host: HostKind, root: &Path) -> Option<Running> {
    let files = Files::new(root).expect("it was just made").cache_control("max-age=60");
    let below = files.clone().beneath("/static/");
    let server = Server::new(Config { host, ..config() })
        .route("/static/*", Resource::new().get(below))
        .route("/*", Resource::new().get(files));
    start(server)
}

/// Head and content of the answer to one request.
fn ask(address: SocketAddr, line: &str, fields: &str) -> (String, Vec<u8>) {
    let mut client = connect(address);
    let input = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    client.write_all(input.as_bytes()).expect("it is open");
    let head = read_head(&mut client);
    (head, read_to_end(&mut client))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(at, _)| *at == name).map(|(_, value)| value)
}

#[test]
fn what_is_there_is_served_and_nothing_else() {
    let directory = Directory::new("served");
    for host in [HostKind::Hosted, HostKind::Native] {
        let Some(running) = serve(host, &directory.public()) else { return };
        let address = running.addresses()[0];
        for (target, status, content) in [
            ("/", 200, "<h1>index</h1>"),
            ("/index.html", 200, "<h1>index</h1>"),
            ("/a%20b.txt", 200, "0123456789"),
            ("/static/a%20b.txt", 200, "0123456789"),
            ("/%61%20b.txt?query", 200, "0123456789"),
            ("/inside", 200, "page"),
            ("/empty", 200, ""),
            ("/sub/page.html", 200, "page"),
            ("/sub", 308, ""),
            ("/sub/", 404, "There is no such file.\n"),
            ("/none", 404, "There is no such file.\n"),
            ("/escape", 404, "There is no such file.\n"),
            ("/loop", 404, "There is no such file.\n"),
            ("/.hidden", 404, "There is no such file.\n"),
            ("/%2ehidden", 404, "There is no such file.\n"),
            ("/../secret", 404, "There is no such file.\n"),
            ("/sub/../../secret", 404, "There is no such file.\n"),
            ("/%2e%2e/secret", 404, "There is no such file.\n"),
            ("/..%2fsecret", 404, "There is no such file.\n"),
            ("/sub/%2e%2e%2f%2e%2e%2fsecret", 404, "There is no such file.\n"),
            ("/sub%5c..%5c..%5csecret", 404, "There is no such file.\n"),
            ("/index.html%00.txt", 404, "There is no such file.\n"),
            ("/index.html/", 404, "There is no such file.\n"),
            ("//etc/passwd", 404, "There is no such file.\n"),
            ("/static//etc/passwd", 404, "There is no such file.\n"),
            ("/static", 404, "There is no such file.\n"),
        ] {
            let (head, found) = ask(address, &format!("GET {target}"), "");
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}");
            assert_eq!(String::from_utf8_lossy(&found), content, "{target}");
        }
        let (head, _) = ask(address, "GET /sub?a=b", "");
        assert_eq!(field(&head, "Location"), Some("/sub/?a=b"));
        let (head, _) = ask(address, "GET //sub", "");
        assert!(head.starts_with("HTTP/1.1 404 "), "no redirect to another host: {head}");
        let (head, _) = ask(address, "POST /index.html", "Content-Length: 0\r\n");
        assert!(
            head.starts_with("HTTP/1.1 405 ") && head.contains("Allow: GET, HEAD, OPTIONS\r\n"),
            "{head}"
        );
        running.stop().expect("it stops");
    }
}

// RFC 3986 §6.2.2, RFC 9110 §4.2.3: another spelling of a path is the same path.
#[test]
fn no_spelling_of_a_path_evades_the_routes_in_front_of_the_files() {
    let directory = Directory::new("shielded");
    let files = Files::new(directory.public()).expect("it was just made");
    let deny = |_: &Request<'_>, _: &[u8]| "denied";
    let below = files.clone().beneath("/static/");
    let server = Server::new(config())
        .route("/app.js", Resource::new().get(returning(deny)))
        .route("/sub/*", Resource::new().get(returning(deny)))
        .route("/static/sub/{name}", Resource::new().get(returning(deny)))
        .route("/static/*", Resource::new().get(below))
        .route("/*", Resource::new().get(files));
    let Some(running) = start(server) else { return };
    for (target, expected) in [
        ("/app.js", 200),
        ("/%61pp.js", 200),
        ("/app%2ejs", 200),
        ("/%61%70%70%2E%6a%73", 200),
        ("http://a/%61pp.js", 200),
        ("/sub/page.html", 200),
        ("/s%75b/page.html", 200),
        ("/%73ub/%zz", 200),
        ("/static/sub/page.html", 200),
        ("/%73tatic/s%75b/page%2ehtml", 200),
        ("//app.js", 404),
        ("/./app.js", 404),
        ("/%2e/app.js", 404),
        ("/x/../app.js", 404),
        ("/x/%2e%2e/app.js", 404),
        ("/x/%2E./app.js", 404),
        ("/x%2f..%2fapp.js", 404),
        ("/%2fapp.js", 404),
        ("/.%2fapp.js", 404),
        ("/app.js/", 404),
        ("/app.js%2f", 404),
        ("/app.js%00", 404),
        ("/app.js/.", 404),
        ("/%2561pp.js", 404),
        ("/%%36%31pp.js", 404),
        ("//sub/page.html", 404),
        ("/sub%2fpage.html", 404),
        ("/sub%5cpage.html", 404),
        ("/x/../sub/page.html", 404),
        ("/static//app.js/", 404),
        ("/static/../app.js", 404),
        ("/static/x/../sub/page.html", 404),
        ("/static/%2e/sub/page.html", 404),
        ("/static%2fsub/page.html", 404),
        ("/x\\app.js", 400),
    ] {
        let (head, found) = ask(running.addresses()[0], &format!("GET {target}"), "");
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{target}: {head}");
        let found = String::from_utf8_lossy(&found);
        assert!(expected != 200 || found == "denied", "{target}: {found}");
    }
    // What is not shielded is found in each spelling of its prefix, too.
    for target in ["/static/app.js", "/%73tatic/%61pp.js"] {
        let (_, found) = ask(running.addresses()[0], &format!("GET {target}"), "");
        assert_eq!(found, b"let plain;", "{target}");
    }
    running.stop().expect("it stops");
}

#[test]
fn conditions_ranges_types_and_variants() {
    let directory = Directory::new("fields");
    let Some(running) = serve(HostKind::Hosted, &directory.public()) else { return };
    let address = running.addresses()[0];
    let (head, _) = ask(address, "GET /a%20b.txt", "");
    assert_eq!(field(&head, "Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(field(&head, "Cache-Control"), Some("max-age=60"));
    assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"));
    let etag = field(&head, "ETag").expect("a tag").to_owned();
    let modified = field(&head, "Last-Modified").expect("a date").to_owned();
    for (fields, status, content) in [
        (format!("If-None-Match: {etag}\r\n"), 304, ""),
        (format!("If-Modified-Since: {modified}\r\n"), 304, ""),
        ("If-None-Match: \"other\"\r\n".to_owned(), 200, "0123456789"),
        (
            "If-Match: \"other\"\r\n".to_owned(),
            412,
            "The file is not the one the request is about.\n",
        ),
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        ("Range: bytes=-3\r\n".to_owned(), 206, "789"),
        ("Range: bytes=2-4,6-7\r\n".to_owned(), 200, "0123456789"),
        ("Range: bytes=10-\r\n".to_owned(), 416, "The file is shorter than that.\n"),
        (format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n"), 206, "234"),
        (format!("Range: bytes=2-4\r\nIf-Range: {modified}\r\n"), 200, "0123456789"),
        ("Range: bytes=2-4\r\nIf-Range: \"old\"\r\n".to_owned(), 200, "0123456789"),
    ] {
        let (head, found) = ask(address, "GET /a%20b.txt", &fields);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {head}");
        assert_eq!(String::from_utf8_lossy(&found), content, "{fields}");
        let range = field(&head, "Content-Range");
        match status {
            206 => assert!(range.expect("a range").ends_with("/10"), "{head}"),
            416 => assert_eq!(range, Some("bytes */10")),
            _ => assert_eq!(range, None),
        }
        if status == 304 {
            assert_eq!(field(&head, "ETag"), Some(&*etag), "{head}");
        }
    }
    let (head, content) = ask(address, "HEAD /a%20b.txt", "");
    assert_eq!((field(&head, "Content-Length"), content.len()), (Some("10"), 0));
    for (range, status) in [("bytes=-1", 200), ("bytes=-0", 416), ("bytes=0-", 416)] {
        let (head, _) = ask(address, "GET /empty", &format!("Range: {range}\r\n"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{range}: {head}");
    }
    let mut etags = Vec::new();
    for (accepted, coding, content) in [
        ("", None, "let plain;"),
        ("gzip, br", Some("br"), "brotli"),
        ("gzip", Some("gzip"), "gzip"),
        ("x-gzip", Some("gzip"), "gzip"),
        ("br;q=0, gzip;q=0", None, "let plain;"),
    ] {
        let fields = format!("Accept-Encoding: {accepted}\r\n");
        let (head, found) = ask(address, "GET /app.js", &fields);
        assert_eq!(field(&head, "Content-Encoding"), coding, "{accepted}");
        assert_eq!(String::from_utf8_lossy(&found), content, "{accepted}");
        assert_eq!(field(&head, "Content-Type"), Some("text/javascript; charset=utf-8"));
        etags.push(field(&head, "ETag").expect("a tag").to_owned());
    }
    assert!(etags[0] != etags[1] && etags[1] != etags[2] && etags[0] == etags[4], "{etags:?}");
    assert_eq!(etags[2], etags[3], "two names of one coding");
    running.stop().expect("it stops");
}

#[test]
fn a_link_leads_to_what_a_path_could_have_named_and_nowhere_else() {
    let directory = Directory::new("links");
    let public = directory.public();
    fs::create_dir_all(public.join(".git/refs")).expect("a temporary directory");
    directory.put("public/.git/config", b"hidden");
    directory.put("public/.git/refs/main", b"hidden");
    let absolute = public.join("index.html");
    for (to, from) in [
        (Path::new("sub"), "directory"),
        (Path::new("../index.html"), "sub/up"),
        (Path::new("directory/page.html"), "twice"),
        (Path::new("."), "same"),
        (Path::new(".git"), "git"),
        (Path::new(".git/refs"), "refs"),
        (Path::new("git/config"), "config"),
        (Path::new(".hidden"), "sub/../shown"),
        (Path::new(".hidden"), "empty.gz"),
        (Path::new("missing"), "dangling"),
        (absolute.as_path(), "absolute"),
    ] {
        symlink(to, public.join(from)).expect("a link");
    }
    let Some(running) = serve(HostKind::Hosted, &public) else { return };
    let address = running.addresses()[0];
    for (target, status, content) in [
        ("/directory/page.html", 200, "page"),
        ("/sub/up", 200, "<h1>index</h1>"),
        ("/twice", 200, "page"),
        ("/same/same/", 200, "<h1>index</h1>"),
        ("/same", 308, ""),
        ("/git/config", 404, "There is no such file.\n"),
        ("/git", 404, "There is no such file.\n"),
        ("/refs/main", 404, "There is no such file.\n"),
        ("/config", 404, "There is no such file.\n"),
        ("/shown", 404, "There is no such file.\n"),
        ("/dangling", 404, "There is no such file.\n"),
        ("/absolute", 404, "There is no such file.\n"),
    ] {
        let (head, found) = ask(address, &format!("GET {target}"), "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}");
        assert_eq!(String::from_utf8_lossy(&found), content, "{target}");
    }
    let (head, _) = ask(address, "GET /empty", "Accept-Encoding: gzip\r\n");
    assert_eq!(field(&head, "Content-Encoding"), None, "a variant is a file like any other");
    running.stop().expect("it stops");
}

#[test]
fn a_file_that_may_not_be_read_is_not_there() {
    let directory = Directory::new("denied");
    let path = directory.public().join("index.html");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("it is ours");
    if fs::read(&path).is_ok() {
        return eprintln!("SKIPPED: root may read everything");
    }
    let Some(running) = serve(HostKind::Hosted, &directory.public()) else { return };
    let (head, _) = ask(running.addresses()[0], "GET /index.html", "");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    running.stop().expect("it stops");
}

#[test]
fn a_large_file_goes_out_in_pieces_as_the_client_takes_them() {
    const BYTES: usize = 64 * 1024 * 1024;
    let directory = Directory::new("large");
    let content = pattern(BYTES);
    directory.put("public/large", &content);
    for host in [HostKind::Hosted, HostKind::Native] {
        let Some(running) = serve(host, &directory.public()) else { return };
        let address = running.addresses()[0];
        let mut slow: Vec<_> = (0..4)
            .map(|_| {
                let mut client = connect(address);
                client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
                client
            })
            .collect();
        // Others are served meanwhile, on the same core.
        for _ in 0..50 {
            let (_, found) = ask(address, "GET /index.html", "");
            assert_eq!(found, b"<h1>index</h1>");
        }
        let sent = running.counter("bytes_sent");
        assert!(sent < 4 * 16 * 1024 * 1024, "{sent} bytes sent to clients that read nothing");
        // Not from the page cache.
        drop_cache(&directory.public().join("large"));
        let mut client = slow.pop().expect("there are four");
        let head = read_head(&mut client);
        assert_eq!(field(&head, "Content-Length"), Some("67108864"));
        let mut found = vec![0; BYTES];
        client.read_exact(&mut found).expect("it is all there");
        assert!(found == content);
        // The connection goes on.
        client.write_all(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
        drop((slow, client));
        let (head, found) = ask(address, "GET /large", "Range: bytes=1000000-61000000\r\n");
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert!(found == content[1_000_000..=61_000_000]);
        let (head, found) = ask(address, "HEAD /large", "");
        assert_eq!((field(&head, "Content-Length"), found.len()), (Some("67108864"), 0));
        wait_until("nobody is connected", || running.counter("connections_open") == 0);
        running.stop().expect("it stops");
    }
}

/// Has the kernel forget the content of a file, if it will.
fn drop_cache(path: &Path) {
    let file = fs::File::open(path).expect("it was just written");
    file.sync_all().expect("a file");
    let advice = rustix::fs::Advice::DontNeed;
    rustix::fs::fadvise(&file, 0, None, advice).expect("an ordinary file");
}

#[test]
fn a_file_that_becomes_shorter_meanwhile_is_cut_and_one_that_is_replaced_is_not() {
    let directory = Directory::new("changing");
    let content = pattern(32 * 1024 * 1024);
    for is_cut in [true, false] {
        directory.put("public/large", &content);
        let Some(running) = serve(HostKind::Hosted, &directory.public()) else { return };
        let mut client = connect(running.addresses()[0]);
        client
            .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("open");
        read_head(&mut client);
        thread::sleep(Duration::from_millis(50));
        let path = directory.public().join("large");
        if is_cut {
            fs::File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(1000))
                .expect("ours");
        } else {
            fs::remove_file(&path).expect("ours");
            directory.put("public/large", b"another");
        }
        let mut found = Vec::new();
        let ended = client.read_to_end(&mut found);
        match is_cut {
            true => assert!(ended.is_err() && found.len() < content.len(), "a reset, not an end"),
            false => assert!(ended.is_ok() && found == content, "the file that was opened"),
        }
        running.stop().expect("it stops");
    }
}

#[test]
fn curl_gets_ranges_resumes_and_compressed_variants() {
    let curl = |arguments: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output();
        output.ok().map(|output| (output.status.success(), output.stdout))
    };
    if curl(&["--version"]).is_none() {
        return eprintln!("SKIPPED: curl is not installed");
    }
    let directory = Directory::new("curl");
    let Some(running) = serve(HostKind::Native, &directory.public()) else { return };
    let url = |path: &str| format!("http://{}/{path}", running.addresses()[0]);
    assert_eq!(curl(&["-r", "3-5", &url("a%20b.txt")]), Some((true, b"345".to_vec())));
    let resumed = curl(&["-C", "7", "-o", "-", &url("a%20b.txt")]);
    assert_eq!(resumed, Some((true, b"789".to_vec())));
    let path = directory.public().join("app.js");
    let newer = curl(&["-z", path.to_str().expect("ASCII"), &url("app.js")]);
    assert_eq!(newer, Some((true, Vec::new())), "not modified since");
    running.stop().expect("it stops");
}
