//! Scopes of API keys (api-core §2.3).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Every environment scope a key may be given, wildcards aside.
pub const ENVIRONMENT_SCOPES: &[&str] = &[
    "environment:integrations:list",
    "environment:integrations:list_credentials",
    "environment:integrations:list_functions",
    "environment:integrations:read",
    "environment:integrations:read_credentials",
    "environment:integrations:create",
    "environment:integrations:update",
    "environment:integrations:delete",
    "environment:connections:list",
    "environment:connections:list_credentials",
    "environment:connections:read",
    "environment:connections:read_credentials",
    "environment:connections:create",
    "environment:connections:update",
    "environment:connections:delete",
    "environment:connect_sessions:write",
    "environment:syncs:read",
    "environment:syncs:execute",
    "environment:syncs:update",
    "environment:syncs:variant:create",
    "environment:syncs:variant:delete",
    "environment:functions:list",
    "environment:functions:read",
    "environment:functions:delete",
    "environment:functions:compile",
    "environment:functions:dryrun",
    "environment:functions:invocations",
    "environment:deploy",
    "environment:records:read",
    "environment:records:write",
    "environment:logs:read",
    "environment:actions:execute",
    "environment:proxy",
    "environment:variables:read",
    "environment:webhook_signing_key:rotate",
    "environment:mcp",
    "environment:agent_sessions:write",
];

/// Every account scope a key may be given, wildcards aside.
pub const ACCOUNT_SCOPES: &[&str] = &[
    "account:environments:list",
    "account:environments:create",
    "account:environments:delete",
    "account:environments:set_production",
    "account:environments:api_keys:list",
    "account:environments:api_keys:read",
    "account:environments:api_keys:create",
    "account:environments:api_keys:delete",
    "account:providers:read",
    "account:providers:write",
];

/// A granted or required permission: `<namespace>:<segment>(:<segment>)*`, a grant may end in `:*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(String);

/// A text that is no known scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope")]
pub struct InvalidScope(pub String);

impl Scope {
    /// Accepts a known scope, or a wildcard that covers at least one known scope.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let known = || ENVIRONMENT_SCOPES.iter().chain(ACCOUNT_SCOPES);
        let valid = match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with(':') => known().any(|scope| scope.starts_with(prefix)),
            _ => known().any(|scope| *scope == text),
        };
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidScope(text.to_owned()))
        }
    }

    /// Whether this grant satisfies `required`. Equal, or a wildcard whose stem starts it; no other hierarchy.
    pub fn grants(&self, required: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) if stem.ends_with(':') => required.starts_with(stem),
            _ => self.0 == required,
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// `environment:*`: what a default environment key may do.
    pub fn full_environment() -> Self {
        Self(vec![Scope("environment:*".to_owned())])
    }

    /// `account:*`: what an account key may do.
    pub fn full_account() -> Self {
        Self(vec![Scope("account:*".to_owned())])
    }

    /// Parses each text.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidScope> {
        texts
            .into_iter()
            .map(Scope::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether any grant satisfies `required`.
    pub fn grants(&self, required: &str) -> bool {
        self.0.iter().any(|scope| scope.grants(required))
    }

    /// Whether any of `alternatives` is satisfied.
    pub fn grants_any(&self, alternatives: &[&str]) -> bool {
        alternatives.iter().any(|required| self.grants(required))
    }

    /// The grants.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_their_stem_and_nothing_else_implies_anything() {
        let set = |texts: &[&str]| ScopeSet::parse(texts.iter().copied()).unwrap();
        assert!(set(&["environment:*"]).grants("environment:connections:read"));
        assert!(set(&["environment:connections:*"]).grants("environment:connections:read_credentials"));
        assert!(!set(&["environment:connections:*"]).grants("environment:integrations:read"));
        assert!(!set(&["environment:connections:read_credentials"]).grants("environment:connections:read"));
        assert!(!set(&["account:*"]).grants("environment:proxy"));
        assert!(Scope::parse("environment:nonsense").is_err());
        assert!(Scope::parse("environment:conn*").is_err());
        assert!(Scope::parse("environment:syncs:variant:*").is_ok());
    }
}
