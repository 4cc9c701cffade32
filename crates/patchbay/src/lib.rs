//! The binary's library: configuration, telemetry, wiring and commands.
//!
//! Tests and embedders start the whole server in-process; `main` only hands over the command line.

pub mod app;
pub mod cli;
pub mod config;
pub mod datadir;
pub mod demo;
pub mod house;
pub mod provision;
pub mod server;
pub mod telemetry;
