//! Publish and subscribe: what is published to a topic reaches every subscriber, on whatever core.
//!
//! ```text
//!   publish ──► frame, once ──► this core's log ──► woken subscribers send from it, each at its own pace
//!                   └── a hop for each other core that has subscribers ──► that core's log ──► ...
//! ```
//!
//! Every core has a log of the last messages of each topic, and a subscriber is a place in it. What a
//! slow one costs is bounded by the log; one that falls behind its end has missed something. Between
//! cores there is a bounded queue into each, and whoever publishes takes no lock but, to be read, the
//! first time that its core names a topic, and while nobody at all is subscribed to it.
//!
//! What one core publishes to a topic arrives everywhere in the order in which it was published.
//! Messages of different cores may arrive in a different order on each.

mod frame;
mod local;
mod shared;
mod subscriptions;

pub(super) use local::LocalTopics;
pub use shared::{TopicLimits, Topics};
pub(super) use subscriptions::Subscriptions;
pub use subscriptions::{SubscribeError, WhenSlow};
