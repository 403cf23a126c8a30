//! What is measured, layer by layer: bodies that criterion times and callgrind counts, the very same
//! for both. Each does what the server does there; what comes out is looked at before it is measured,
//! so that no figure is of nonsense.

pub mod buffer;
pub mod content;
pub mod engine;
pub mod files;
pub mod head;
pub mod negotiate;
pub mod response;
pub mod routing;
pub mod scan;
pub mod session;
pub mod switch;
pub mod target;
pub mod tls;
pub mod websocket;

use std::time::Duration;

/// Runs so many rounds, and says how long they took.
pub type Run = Box<dyn FnMut(u64) -> Duration>;

/// One thing that is measured.
pub struct Body {
    pub group: &'static str,
    pub name: String,
    /// What a round is so many of: requests, messages, heads.
    pub units: u64,
    /// Bytes of a round, where its speed is told in them.
    pub bytes: Option<u64>,
    /// Whether its instructions are counted, too.
    pub is_counted: bool,
    make: Box<dyn Fn() -> Run>,
}

impl Body {
    /// A body that is ready to run once `make` has made, and looked at, what it needs.
    pub fn new<F>(
        group: &'static str,
        name: impl Into<String>,
        make: impl Fn() -> F + 'static,
    ) -> Body
    where
        F: FnMut(u64) -> Duration + 'static,
    {
        let make = Box::new(move || Box::new(make()) as Run);
        Body { group, name: name.into(), units: 1, bytes: None, is_counted: true, make }
    }

    /// The same, a round of which is so many.
    pub fn units(self, units: u64) -> Body {
        Body { units, ..self }
    }

    /// The same, a round of which is about so many bytes.
    pub fn bytes(self, bytes: usize) -> Body {
        Body { bytes: Some(bytes as u64), ..self }
    }

    /// The same for times alone: most of what it costs is not in this process, or not the same twice.
    pub fn only_timed(self) -> Body {
        Body { is_counted: false, ..self }
    }

    /// What the table of instructions knows it by.
    pub fn path(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Ready to run.
    pub fn begin(&self) -> Run {
        (self.make)()
    }
}

/// Every body whose instructions are counted, in the order of the layers.
pub fn all_counted() -> Vec<Body> {
    let layers = [
        scan::bodies(),
        head::bodies(),
        target::bodies(),
        content::bodies(),
        response::bodies(),
        negotiate::bodies(),
        routing::bodies(),
        buffer::bodies(),
        session::bodies(),
        switch::bodies(),
        engine::bodies(),
        tls::bodies(),
        files::bodies(),
        websocket::bodies(),
    ];
    layers.into_iter().flatten().filter(|body| body.is_counted).collect()
}
