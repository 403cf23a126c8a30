//! Proves the conformance data and its interpreter without a server: the modules' own tests parse
//! every file and rehearse every case against a scripted peer. The servers are tested where this
//! tree is included with a target of their own.

#[path = "support/conformance/mod.rs"]
mod conformance;
