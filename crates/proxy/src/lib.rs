//! Proxied requests: building, credential injection, streaming relay.
