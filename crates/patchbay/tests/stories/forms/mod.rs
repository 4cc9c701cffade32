//! Customers connect by filling in a form, each auth mode from its form to its end.

mod aws;
mod bill;
mod client_credentials;
mod jwt;
mod keys;
mod signature;
mod tba;
mod two_step;
