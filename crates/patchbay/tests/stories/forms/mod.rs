//! Customers connect by filling in a form, each auth mode from its form to its end.

mod bill;
mod jwt;
mod signature;
mod tba;
