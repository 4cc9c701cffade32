//! Templates of URLs.

use ::url::Url;

use super::{Mode, Part, Scope, Template, Unresolved};

/// How values enter a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlValues {
    /// Percent-encoded as components; where that makes no URL (a value that brings its own scheme, port or path),
    /// taken as they are.
    Encoded,
    /// Taken as they are: `*_skip_encode: [base_url]`, base URLs of the proxy.
    Raw,
}

/// Why there is no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderUrlError {
    /// Placeholders without a value; an empty one counts as none.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// The values do not make a URL of the web.
    #[error("the values do not make a valid URL")]
    Invalid,
    /// A value tries to lead to another host than the definition allows.
    #[error("a value leads outside {suffix}")]
    ForeignHost {
        /// What the host must end with.
        suffix: String,
    },
}

impl Template {
    /// The URL the template makes of the scope's values, `http` or `https`.
    ///
    /// Values come from end users: one with a `/`, `@` or `#` in it must not move the request to a host outside the
    /// domain the definition writes behind the placeholder, since client secrets go there.
    pub fn render_url(&self, scope: &Scope<'_>, values: UrlValues) -> Result<Url, RenderUrlError> {
        let mode = match values {
            UrlValues::Encoded => Mode::UrlComponent,
            UrlValues::Raw => Mode::UrlRaw,
        };
        let text = self.render(scope, mode)?;
        let parsed = match Url::parse(text.trim()) {
            Err(_) if values == UrlValues::Encoded => Url::parse(self.render(scope, Mode::UrlRaw)?.trim()),
            parsed => parsed,
        };
        let url = parsed.map_err(|_| RenderUrlError::Invalid)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RenderUrlError::Invalid);
        }
        self.confine(scope, &url)?;
        Ok(url)
    }

    /// Fails if `url`, made from this template and the scope's values, is on a host the template does not allow:
    /// the host must end with what the template writes behind the last placeholder of its authority, and carries
    /// no user name.
    pub fn confine(&self, scope: &Scope<'_>, url: &Url) -> Result<(), RenderUrlError> {
        let complete = |parts: &[Part]| {
            let mut missing = Vec::new();
            super::write_parts(parts, scope, Mode::UrlRaw, &mut String::new(), &mut missing);
            missing.is_empty()
        };
        let parts = match &self.0.fallback {
            Some(fallback) if !complete(&self.0.parts) => fallback,
            _ => &self.0.parts,
        };
        let Some(suffix) = host_suffix(parts) else {
            return Ok(());
        };
        let host = url.host_str().unwrap_or_default();
        let user = !url.username().is_empty() || url.password().is_some();
        if user || !host.ends_with(&suffix) {
            return Err(RenderUrlError::ForeignHost { suffix });
        }
        Ok(())
    }

    /// Whether values can change the URL's host at all.
    pub fn has_variable_host(&self) -> bool {
        self.alternatives().any(|parts| {
            authority(parts)
                .iter()
                .any(|part| matches!(part, Part::Expression(_)))
        })
    }
}

/// The literal text at the end of the authority, lower case and without port; none if a value ends it or if it has
/// no value in it.
fn host_suffix(parts: &[Part]) -> Option<String> {
    let authority = authority(parts);
    let values = authority.iter().any(|part| matches!(part, Part::Expression(_)));
    let last = match authority.last()? {
        Part::Text(text) if values => text.as_str(),
        _ => return None,
    };
    let last = last.split(['/', '?', '#']).next().unwrap_or_default();
    let host = last.rsplit_once(':').map_or(last, |(host, _)| host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// The parts up to the one in which the path begins.
fn authority(parts: &[Part]) -> &[Part] {
    let mut end = 0;
    for (index, part) in parts.iter().enumerate() {
        end = index + 1;
        match part {
            Part::Expression(_) => {}
            Part::Text(text) => {
                let authority = if index == 0 {
                    text.split_once("://").map_or("", |(_, rest)| rest)
                } else {
                    text
                };
                if authority.contains(['/', '?', '#']) {
                    break;
                }
            }
        }
    }
    &parts[..end]
}
