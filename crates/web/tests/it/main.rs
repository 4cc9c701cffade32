//! Pages, popup and forms as a browser meets them, in process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod connect_ui;
mod forms;
mod pages;
mod popup;
