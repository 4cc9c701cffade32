//! The driver layer: one transaction type over SQLite and Postgres.
//!
//! Repositories see [`Tx`], [`Value`] and [`Row`] and nothing of the drivers. SQL is written once, with `$1..$n`
//! and the few types both databases share: 64-bit integers (also for booleans and times), floats, text, bytes.
//!
//! What both engines promise alike:
//! - a transaction commits on `Ok` and is rolled back on `Err` or panic; `Ok` reaches the caller once it is durable;
//! - once started, a write runs to its end even if whoever waits for it goes away;
//! - after a failed statement the transaction is lost, so nobody comes to rely on SQLite's milder ways;
//! - notices go out after the commit, never on a rollback;
//! - a database that cannot be reached or written is [`DbError::Unavailable`], soon, and is tried again by itself.

mod context;
mod error;
mod notice;
pub(crate) mod postgres;
mod run;
pub(crate) mod sqlite;
mod tx;
mod value;

pub(crate) use context::Context;
pub use error::DbError;
pub use notice::{Notice, Topic};
pub(crate) use tx::{Access, Closing, Engine};
pub use tx::{Dialect, Tx, TxVault};
pub use value::{FromValue, Row, Value};
