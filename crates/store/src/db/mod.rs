//! The driver layer: one transaction type over SQLite and Postgres.
//!
//! Repositories see [`Tx`], [`Value`] and [`Row`] and nothing of the drivers. SQL is written once, with `$1..$n`
//! and the few types both databases share: 64-bit integers (also for booleans and times), floats, text, bytes.

mod error;
mod notice;
pub(crate) mod sql;
mod tx;
mod value;

pub use error::DbError;
pub use notice::{Notice, Topic};
pub use tx::{Dialect, Tx, TxVault};
pub use value::{FromValue, Row, Value};
