//! Scopes: stored comma-separated, sent with the provider's separator.

use crate::definition::Definition;

/// The scopes of a stored, comma-separated list; blanks around them and empty items dropped.
pub fn split(stored: &str) -> impl Iterator<Item = &str> {
    stored.split(',').map(str::trim).filter(|scope| !scope.is_empty())
}

/// The value of the `scope` parameter for a stored list.
pub fn for_request(definition: &Definition, stored: &str) -> String {
    split(stored)
        .collect::<Vec<_>>()
        .join(&definition.scope_separator)
}

/// What an integration that names no scopes stores; none if the provider has no defaults.
pub fn defaults(definition: &Definition) -> Option<String> {
    (!definition.default_scopes.is_empty()).then(|| definition.default_scopes.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    #[test]
    fn stored_with_commas_sent_with_the_providers_separator() {
        let entry = "display_name: A\nauth_mode: NONE\ndocs: https://a.example\nscope_separator: '+'\ndefault_scopes: [a, b:c]\n";
        let (catalogue, findings) = Catalogue::from_text("a.yaml", entry);
        assert_eq!(findings, []);
        let definition = &catalogue.get("a").unwrap().definition;
        assert_eq!(for_request(definition, "x, y,,z "), "x+y+z");
        assert_eq!(for_request(definition, ""), "");
        assert_eq!(defaults(definition).as_deref(), Some("a,b:c"));
    }
}
