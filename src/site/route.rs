//! Routes: what a configuration file has at its paths.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Served;
use super::backend;
use super::catalog::Catalog;
use super::fault::Notes;
use super::read::open_file;
use super::section::{Placed, Section, TextOrSection};
use crate::config::HostKind;
use crate::files::Files;
use crate::http::{Method, Response, Status, normal_path};
use crate::privilege::refused_to;
use crate::proxy::Proxy;
use crate::resource::{Answer, Redirect, Registry, Resource};

/// What the routes of a file are made into.
pub(super) struct Routing<'a> {
    pub(super) notes: &'a Notes<'a>,
    pub(super) catalog: &'a Catalog,
    /// What paths of files are relative to.
    pub(super) folder: &'a Path,
    pub(super) host: HostKind,
    pub(super) registry: Registry,
    pub(super) served: Vec<Served>,
    /// Who has a path already: by host and pattern.
    taken: HashMap<(String, Vec<u8>), usize>,
}

/// Methods that a fixed answer or a redirection can be for.
const METHODS: [(&str, Method); 6] = [
    ("GET", Method::Get),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("PATCH", Method::Patch),
    ("OPTIONS", Method::Options),
];

impl<'a> Routing<'a> {
    pub(super) fn new(
        notes: &'a Notes<'a>,
        catalog: &'a Catalog,
        folder: &'a Path,
        host: HostKind,
    ) -> Routing<'a> {
        let (registry, served, taken) = (Registry::default(), Vec::new(), HashMap::new());
        Routing { notes, catalog, folder, host, registry, served, taken }
    }

    /// Adds the routes of every host, and those of each `[[site]]`.
    pub(super) fn add_all(&mut self, file: &mut Section<'a>) {
        for route in file.sections("route") {
            self.add(&[], route);
        }
        for mut site in file.sections("site") {
            let names = self.names(&mut site);
            for route in site.sections("route") {
                self.add(&names, route);
            }
            site.end();
        }
    }

    fn names(&self, site: &mut Section<'a>) -> Vec<String> {
        let names = site.texts("names").unwrap_or_default();
        if names.is_empty() {
            site.fault("a site says its `names`: hosts, or `*.` and a host for all below it");
        }
        for name in &names {
            let host = name.value.strip_prefix("*.").unwrap_or(&name.value);
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            if host.is_empty() || !host.bytes().all(is_plain) {
                site.fault_at(name, "a name is a host, or `*.` and a host");
            }
        }
        names.into_iter().map(|name| name.value).collect()
    }

    fn add(&mut self, hosts: &[String], mut route: Section<'a>) {
        let Some(path) = route.text("path") else {
            route.fault("a route says its `path`");
            return;
        };
        let made = self.resource(&path, &mut route);
        route.end();
        let Some((resource, about)) = made else { return };
        let everywhere = [String::new()];
        let hosts = if hosts.is_empty() { &everywhere } else { hosts };
        for host in hosts {
            self.put(host, &path, resource.clone(), &about);
        }
    }

    fn put(&mut self, host: &str, path: &Placed<String>, resource: Resource, about: &str) {
        let (pattern, at) = (&path.value, path.at.clone());
        let normal = normal_path(pattern.as_bytes()).into_owned();
        if let Some(before) = self.taken.insert((host.to_ascii_lowercase(), normal), at.start) {
            let line = self.notes.line_of(before);
            self.notes.add(at, format!("line {line} has a route for this path already"));
            return;
        }
        if self.host == HostKind::Native
            && let Some(what) = resource.needs_runtime(pattern)
        {
            let text = format!("{what} is async, which takes `host = \"hosted\"`");
            return self.notes.add(at, text);
        }
        match host {
            "" => self.registry.insert(pattern, resource),
            host => self.registry.insert_on(host, pattern, resource),
        }
        if let Some(fault) = self.registry.take_fault() {
            return self.notes.add(at, fault.to_string());
        }
        let host = (!host.is_empty()).then(|| host.to_owned());
        self.served.push(Served { host, pattern: pattern.clone(), about: about.to_owned() });
    }

    /// What is at a path, and what to say of it.
    fn resource(
        &self,
        path: &Placed<String>,
        route: &mut Section<'a>,
    ) -> Option<(Resource, String)> {
        let faults = self.notes.count();
        let (mut resource, mut about) = (Resource::new(), Vec::new());
        if let Some(bytes) = route.number("content_bytes_max", 0..=u64::MAX) {
            resource = resource.content_bytes_max(bytes.value);
        }
        let answers = [
            self.handler(route),
            self.files(path, route),
            self.answer(route),
            redirect(route),
            proxy(route),
        ];
        let mut answers = answers.into_iter().flatten();
        let answered = answers.next();
        if answers.next().is_some() {
            let text = "a route has one of `handler`, `files`, `answer`, `redirect` and `proxy`";
            route.fault_at(path, text);
        }
        let is_answered = answered.is_some();
        if let Some(Answered { put, about: said }) = answered {
            resource = put(resource);
            about.push(said);
        }
        let switches = self.upgrades(route, &mut resource, &mut about);
        if route.flag("upgrade_required").unwrap_or(switches && !is_answered) {
            resource = resource.upgrade_required();
        }
        if route.flag("tls_required") == Some(true) {
            resource = resource.tls_required();
        }
        if route.flag("advertise") == Some(true) {
            resource = resource.advertise();
        }
        let orders = [("server", false), ("client", true)];
        if route.word("prefer", &orders) == Some(true) {
            resource = resource.prefer_client();
        }
        let is_fine = self.notes.count() == faults;
        if is_fine && !is_answered && !switches {
            let text = "a route says what is there: `handler`, `files`, `answer`, `redirect`, `proxy` or `upgrade`";
            route.fault_at(path, text);
            return None;
        }
        is_fine.then(|| (resource, about.join("; ")))
    }

    /// `upgrade = "name"`, with `options = { ... }`; or `[route.upgrade.name]` for each, in descending
    /// preference.
    fn upgrades(
        &self,
        route: &mut Section<'a>,
        resource: &mut Resource,
        about: &mut Vec<String>,
    ) -> bool {
        let named = match route.text_or_section("upgrade") {
            None => return false,
            Some(TextOrSection::Section(mut upgrades)) => upgrades.named_sections(),
            Some(TextOrSection::Text(name)) => {
                let options = route.section("options");
                vec![(name, options.unwrap_or_else(|| route.nothing()))]
            }
        };
        for (name, mut options) in named {
            if let Some((protocol, what)) = self.catalog.protocol(&name, &mut options) {
                *resource = std::mem::take(resource).upgrade(protocol);
                about.push(what.to_owned());
                options.end();
            }
        }
        true
    }

    fn handler(&self, route: &mut Section<'a>) -> Option<Answered> {
        let name = route.text("handler")?;
        let (put, about) = self.catalog.handler_named(&name, route)?;
        Some(Answered { put: Box::new(move |resource| put(resource)), about: about.to_owned() })
    }

    fn files(&self, path: &Placed<String>, route: &mut Section<'a>) -> Option<Answered> {
        let (root, mut more) = match route.text_or_section("files")? {
            TextOrSection::Text(root) => (root, route.nothing()),
            TextOrSection::Section(mut more) => match more.text("root") {
                Some(root) => (root, more),
                None => {
                    more.fault("files say the directory they are in: `root`");
                    return None;
                }
            },
        };
        let Some(prefix) = path.value.strip_suffix('*') else {
            let text = "files are at a path that ends in `*`: `/*`, or `/static/*`";
            route.fault_at(path, text);
            return None;
        };
        let directory = self.folder.join(&root.value);
        let files = Files::new(&directory);
        let Ok(mut files) = files.map_err(|error| {
            let shown = directory.display();
            route.fault_at(
                &root,
                format!("cannot serve the files of {shown}: {}", refused_to(&error)),
            );
        }) else {
            return None;
        };
        files = files.beneath(prefix);
        if let Some(index) = more.text("index") {
            files = files.index(&index.value);
        }
        if let Some(value) = more.text("cache_control") {
            match Response::new(Status::OK).with_field("Cache-Control", value.value.as_str()) {
                Ok(_) => files = files.cache_control(&value.value),
                Err(error) => more.fault_at(&value, error.to_string()),
            }
        }
        if more.flag("variants") == Some(false) {
            files = files.without_variants();
        }
        more.end();
        let about = format!("files of {}", directory.display());
        Some(Answered { put: Box::new(|resource| resource.get(files)), about })
    }

    fn answer(&self, route: &mut Section<'a>) -> Option<Answered> {
        let mut answer = route.section("answer")?;
        let status = answer.number("status", 200..=599).map_or(200, |status| status.value);
        let mut response = u16::try_from(status).ok().and_then(Status::new).map(Response::new)?;
        if let Some(body) = self.body(&mut answer) {
            response = response.with_body(body);
        }
        let kind = answer
            .text("type")
            .map(|kind| (Placed { value: "Content-Type".into(), ..kind.clone() }, kind));
        let fields = answer.section("fields").map(|mut fields| fields.named_texts());
        for (name, value) in kind.into_iter().chain(fields.unwrap_or_default()) {
            match response.clone().with_field(name.value.as_str(), value.value.as_str()) {
                Ok(more) => response = more,
                Err(error) => answer.fault_at(&name, error.to_string()),
            }
        }
        let methods = methods(&mut answer);
        answer.end();
        let about = format!("answers {status}");
        Some(Answered { put: for_each(methods, response.to_ready()), about })
    }

    fn body(&self, answer: &mut Section<'a>) -> Option<Vec<u8>> {
        let (text, file) = (answer.text("text"), answer.text("file"));
        match (text, file) {
            (Some(_), Some(file)) => {
                answer.fault_at(&file, "an answer has a `text` or a `file`, not both");
                None
            }
            (Some(text), None) => Some(text.value.into_bytes()),
            (None, Some(file)) => {
                let path: PathBuf = self.folder.join(&file.value);
                let mut bytes = Vec::new();
                let read = open_file(&path).and_then(|mut file| file.read_to_end(&mut bytes));
                let read = read.map(|_| bytes);
                read.map_err(|error| {
                    let why = refused_to(&error);
                    answer.fault_at(&file, format!("cannot read {}: {why}", path.display()));
                })
                .ok()
            }
            (None, None) => None,
        }
    }
}

/// What a route answers over HTTP.
struct Answered {
    put: Box<dyn FnOnce(Resource) -> Resource>,
    about: String,
}

fn redirect(route: &mut Section<'_>) -> Option<Answered> {
    let (to, mut more) = match route.text_or_section("redirect")? {
        TextOrSection::Text(to) => (to, route.nothing()),
        TextOrSection::Section(mut more) => match more.text("to") {
            Some(to) => (to, more),
            None => {
                more.fault("a redirection says where `to`");
                return None;
            }
        },
    };
    let status = more.number("status", 300..=399).map_or(308, |status| status.value);
    let methods = methods(&mut more);
    more.end();
    let status = u16::try_from(status).ok().and_then(Status::new)?;
    match Redirect::new(status, &to.value) {
        Ok(redirect) => {
            let about = format!("{} to {}", status.code(), to.value);
            Some(Answered { put: for_each(methods, redirect), about })
        }
        Err(error) => {
            route.fault_at(&to, error.to_string());
            None
        }
    }
}

fn proxy(route: &mut Section<'_>) -> Option<Answered> {
    let (proxy, to) = match route.text_or_section("proxy")? {
        TextOrSection::Text(to) => match backend::named(&to.value) {
            Ok(backend) => (Proxy::to(backend), to.value),
            Err(why) => {
                route.fault_at(&to, why);
                return None;
            }
        },
        TextOrSection::Section(mut more) => {
            let proxy = backend::proxy(&mut more);
            more.end();
            let proxy = proxy?;
            let to = proxy.backend().to_string();
            (proxy, to)
        }
    };
    let about = format!("answers of {to}");
    Some(Answered { put: Box::new(move |resource| proxy.add_to(resource)), about })
}

/// The methods that an answer is for: GET, and HEAD with it, if nothing is said.
fn methods(section: &mut Section<'_>) -> Vec<Method> {
    let Some(said) = section.texts("methods") else { return vec![Method::Get] };
    let known = |word: &Placed<String>| {
        let found = METHODS.iter().find(|(name, _)| *name == word.value);
        if found.is_none() {
            let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
            let text = format!("methods are {}; HEAD comes with GET", names.join(", "));
            section.fault_at(word, text);
        }
        found.map(|(_, method)| *method)
    };
    said.iter().filter_map(known).collect()
}

fn for_each(
    methods: Vec<Method>,
    answer: impl Answer + Clone,
) -> Box<dyn FnOnce(Resource) -> Resource> {
    Box::new(move |resource| {
        methods.into_iter().fold(resource, |resource, method| resource.on(method, answer.clone()))
    })
}
