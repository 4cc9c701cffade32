//! Outbound webhooks: signing and durable delivery from the outbox (webhooks part B).
//!
//! A cause writes its deliveries in its own transaction (`connections::outbox`). [`delivery`] claims what is due,
//! on any node, sends it signed, and records the attempt. A delivery ends when the receiver answers 2xx, or dies
//! after days of attempts; the dead stay listed and can be retried.

pub mod delivery;
pub mod export;
pub mod schedule;
pub mod sign;

pub use delivery::{Deliverer, Settings};
pub use export::Exporter;
