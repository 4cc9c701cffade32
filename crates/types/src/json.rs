//! JSON objects as they are stored and passed on, key order kept.

/// A JSON object.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;
