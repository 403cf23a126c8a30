//! Who turns the engine of a core: tokio-uring, so that async handlers have a runtime, or nobody
//! but itself.

// Tokio asks for a promise that a descriptor stays open while it is registered.
#[allow(unsafe_code)]
pub mod hosted;
pub mod native;
