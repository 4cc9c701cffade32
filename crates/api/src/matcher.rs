//! Finding the route of a path (api-core §1.2): case-insensitive, one trailing slash ignored, a literal segment
//! before a parameter but only for the methods the literal has, parameters percent-decoded.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::query::is_percent_encoding;

/// A tree of path segments; each leaf knows its methods.
#[derive(Debug)]
pub(crate) struct Matcher<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    literals: Vec<(String, usize)>,
    parameter: Option<usize>,
    /// Routes that end here.
    here: Methods<T>,
    /// Routes that take all that follows, be it nothing.
    rest: Methods<T>,
}

/// Which methods a route answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// This one; `GET` answers `HEAD` too.
    Only(Method),
    /// Any.
    Any,
}

#[derive(Debug)]
struct Methods<T>(Vec<(Verb, T)>);

/// What became of a path.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'m, 'p, T> {
    Route(&'m T, Vec<&'p str>),
    /// The path exists with these methods, in the form of `Allow`.
    OtherMethods(String),
    Nothing,
}

/// Two routes with the same method and path.
#[derive(Debug, thiserror::Error)]
#[error("{0} is routed twice")]
pub struct DuplicateRoute(pub String);

impl<T> Matcher<T> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::new()],
        }
    }

    /// Adds a pattern such as `/connections/{connectionId}` or `/proxy/{*path}`.
    pub(crate) fn insert(&mut self, verb: Verb, pattern: &str, value: T) -> Result<(), DuplicateRoute> {
        let mut at = 0;
        let mut rest = false;
        for segment in pattern.split('/').filter(|segment| !segment.is_empty()) {
            if segment.starts_with("{*") {
                rest = true;
                break;
            }
            at = self.child(at, segment);
        }
        let node = &mut self.nodes[at];
        let methods = if rest { &mut node.rest } else { &mut node.here };
        if methods.0.iter().any(|(other, _)| *other == verb) {
            return Err(DuplicateRoute(format!("{verb:?} {pattern}")));
        }
        methods.0.push((verb, value));
        Ok(())
    }

    pub(crate) fn find<'p>(&self, method: &Method, path: &'p str) -> Found<'_, 'p, T> {
        let mut captures = Vec::new();
        let after_root = path.strip_prefix('/');
        if let Some(value) = self.walk(0, method, after_root, &mut captures) {
            return Found::Route(value, captures);
        }
        let mut allowed = Vec::new();
        self.allowed(0, after_root, &mut allowed);
        if allowed.is_empty() {
            return Found::Nothing;
        }
        allowed.sort_unstable();
        allowed.dedup();
        Found::OtherMethods(allowed.join(", "))
    }

    /// `left` is what follows the last slash passed: none at the end, empty after a trailing slash.
    fn walk<'m, 'p>(
        &'m self,
        at: usize,
        method: &Method,
        left: Option<&'p str>,
        captures: &mut Vec<&'p str>,
    ) -> Option<&'m T> {
        let node = &self.nodes[at];
        let found = match left {
            None | Some("") => node.here.get(method),
            Some(left) => {
                let (segment, left) = split(left);
                let literal = node
                    .literal(segment)
                    .and_then(|child| self.walk(child, method, left, captures));
                literal.or_else(|| {
                    let child = node.parameter.filter(|_| !segment.is_empty())?;
                    captures.push(segment);
                    let found = self.walk(child, method, left, captures);
                    if found.is_none() {
                        captures.pop();
                    }
                    found
                })
            }
        };
        found.or_else(|| {
            let found = node.rest.get(method)?;
            captures.push(left.unwrap_or_default());
            Some(found)
        })
    }

    fn allowed(&self, at: usize, left: Option<&str>, allowed: &mut Vec<String>) {
        let node = &self.nodes[at];
        node.rest.list(allowed);
        let Some(left) = left.filter(|left| !left.is_empty()) else {
            return node.here.list(allowed);
        };
        let (segment, left) = split(left);
        let parameter = node.parameter.filter(|_| !segment.is_empty());
        for child in node.literal(segment).into_iter().chain(parameter) {
            self.allowed(child, left, allowed);
        }
    }

    fn child(&mut self, at: usize, segment: &str) -> usize {
        let next = self.nodes.len();
        let node = &mut self.nodes[at];
        let existing = if segment.starts_with('{') {
            *node.parameter.get_or_insert(next)
        } else if let Some(child) = node.literal(segment) {
            child
        } else {
            node.literals.push((segment.to_owned(), next));
            next
        };
        if existing == next {
            self.nodes.push(Node::new());
        }
        existing
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self {
            literals: Vec::new(),
            parameter: None,
            here: Methods(Vec::new()),
            rest: Methods(Vec::new()),
        }
    }

    fn literal(&self, segment: &str) -> Option<usize> {
        let found = self
            .literals
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(segment));
        found.map(|(_, child)| *child)
    }
}

impl<T> Methods<T> {
    fn get(&self, method: &Method) -> Option<&T> {
        let by = |wanted: &Verb| {
            self.0
                .iter()
                .find(|(verb, _)| verb == wanted)
                .map(|(_, value)| value)
        };
        let only = |method: &Method| {
            let found = self
                .0
                .iter()
                .find(|(verb, _)| matches!(verb, Verb::Only(only) if only == method));
            found.map(|(_, value)| value)
        };
        let head = || only(&Method::GET).filter(|_| *method == Method::HEAD);
        only(method).or_else(|| by(&Verb::Any)).or_else(head)
    }

    fn list(&self, allowed: &mut Vec<String>) {
        for (verb, _) in &self.0 {
            if let Verb::Only(method) = verb {
                allowed.push(method.to_string());
                if *method == Method::GET {
                    allowed.push("HEAD".to_owned());
                }
            }
        }
        if !self.0.is_empty() {
            allowed.push("OPTIONS".to_owned());
        }
    }
}

fn split(left: &str) -> (&str, Option<&str>) {
    match left.split_once('/') {
        Some((segment, left)) => (segment, Some(left)),
        None => (left, None),
    }
}

/// The names of a pattern's parameters, in order.
pub(crate) fn parameter_names(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('/').filter_map(|segment| {
        Some(
            segment
                .strip_prefix('{')?
                .strip_suffix('}')?
                .trim_start_matches('*'),
        )
    })
}

/// A path segment percent-decoded as UTF-8; none if it is malformed. A plus is a plus.
pub(crate) fn decode_segment(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    if !is_percent_encoding(segment) {
        return None;
    }
    percent_decode_str(segment).decode_utf8().ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher() -> Matcher<&'static str> {
        let mut matcher = Matcher::new();
        for (method, pattern) in [
            ("GET", "/"),
            ("GET", "/connections"),
            ("POST", "/connections"),
            ("GET", "/connections/{connectionId}"),
            ("DELETE", "/connections/{connectionId}"),
            ("PATCH", "/connections/{connectionId}"),
            ("POST", "/connections/metadata"),
            ("PATCH", "/connections/metadata"),
            ("POST", "/connection/{connectionId}/metadata"),
            ("GET", "/providers/{provider}/templates"),
        ] {
            let method: Method = method.parse().unwrap();
            let name: &'static str = Box::leak(format!("{method} {pattern}").into_boxed_str());
            matcher.insert(Verb::Only(method), pattern, name).unwrap();
        }
        matcher.insert(Verb::Any, "/proxy/{*path}", "proxy").unwrap();
        matcher
    }

    fn found(method: &str, path: &str) -> String {
        match matcher().find(&method.parse().unwrap(), path) {
            Found::Route(name, captures) => format!("{name} {captures:?}"),
            Found::OtherMethods(allow) => format!("405 {allow}"),
            Found::Nothing => "404".to_owned(),
        }
    }

    #[test]
    fn paths_find_their_routes() {
        for (method, path, expected) in [
            ("GET", "/", "GET / []"),
            ("HEAD", "/Connections/", "GET /connections []"),
            (
                "GET",
                "/CONNECTIONS/Ab",
                r#"GET /connections/{connectionId} ["Ab"]"#,
            ),
            (
                "GET",
                "/connections/a%2Fb/",
                r#"GET /connections/{connectionId} ["a%2Fb"]"#,
            ),
            (
                "GET",
                "/connections/metadata",
                r#"GET /connections/{connectionId} ["metadata"]"#,
            ),
            (
                "DELETE",
                "/connections/METADATA",
                r#"DELETE /connections/{connectionId} ["METADATA"]"#,
            ),
            ("PATCH", "/connections/Metadata", "PATCH /connections/metadata []"),
            ("POST", "/connections/metadata/", "POST /connections/metadata []"),
            ("POST", "/connections/x", "405 DELETE, GET, HEAD, OPTIONS, PATCH"),
            (
                "PUT",
                "/connections/metadata",
                "405 DELETE, GET, HEAD, OPTIONS, PATCH, POST",
            ),
            ("GET", "/connections//", "404"),
            ("GET", "//connections", "404"),
            ("GET", "/connections/a/b", "404"),
            (
                "GET",
                "/providers/x/templates",
                r#"GET /providers/{provider}/templates ["x"]"#,
            ),
            ("GET", "/providers/x", "404"),
            ("GET", "/proxy", r#"proxy [""]"#),
            ("PROPFIND", "/Proxy/", r#"proxy [""]"#),
            ("POST", "/proxy/a//b/", r#"proxy ["a//b/"]"#),
            ("GET", "", "GET / []"),
            ("GET", "*", "GET / []"),
        ] {
            assert_eq!(found(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_route_cannot_be_given_twice() {
        let mut matcher = matcher();
        assert!(
            matcher
                .insert(Verb::Only(Method::GET), "/Connections/{other}", "x")
                .is_err()
        );
    }

    #[test]
    fn segments_decode_as_utf_8() {
        for (segment, decoded) in [
            ("a%2Fb", Some("a/b")),
            ("a+b", Some("a+b")),
            (
                "a%20b%7B%22x%22:[1]%7D|@=+~,;:$'",
                Some("a b{\"x\":[1]}|@=+~,;:$'"),
            ),
            ("%F0%9F%A6%80", Some("🦀")),
            ("é", Some("é")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%ff", None),
            ("%é0", None),
        ] {
            assert_eq!(decode_segment(segment).as_deref(), decoded, "{segment}");
        }
    }

    proptest! {
        #[test]
        fn any_id_survives_encoding(id in "\\PC{1,20}") {
            let encoded = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC).to_string();
            let path = format!("/connections/{encoded}");
            let matcher = matcher();
            let Found::Route(_, captures) = matcher.find(&Method::GET, &path) else {
                return Err(TestCaseError::fail("no route"));
            };
            prop_assert_eq!(decode_segment(captures[0]), Some(id));
        }

        #[test]
        fn no_path_panics(method in "(GET|PATCH|PUT)", path in "[/a-cA-C%{}*.mn]{0,30}") {
            found(&method, &path);
        }
    }
}
