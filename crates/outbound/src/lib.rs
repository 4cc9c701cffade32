//! The one HTTP client to the world: pool, TLS, address guard in the connector, retries.
