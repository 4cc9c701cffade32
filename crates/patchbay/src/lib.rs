//! The whole server as a library: configuration, wiring, subcommands.
