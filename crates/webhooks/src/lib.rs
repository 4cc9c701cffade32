//! Outbound signing and durable delivery; later inbound routing.
