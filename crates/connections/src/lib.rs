//! Environments, keys, integrations, connections and connect sessions: their rules.
