//! Texts to values. Each function says what is wrong and what to write instead.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use data_encoding::BASE64;
use ipnet::IpNet;
use patchbay_outbound::PrivateNetworks;
use patchbay_types::{EnvironmentName, Secret};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::problem::Invalid;

/// `host:port`; the host is looked up when the server binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Name or IP address, without brackets.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A 256-bit key; masked in `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey(Zeroizing<[u8; 32]>);

impl EncryptionKey {
    /// Wraps key bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Call it where the key is used.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it is written in files and variables.
    pub fn to_base64(&self) -> Secret {
        Secret::new(BASE64.encode(&*self.0))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(***)")
    }
}

pub(super) fn listen(text: &str) -> Result<Listen, Invalid> {
    let fix = "write host:port, such as 127.0.0.1:3003 or [::1]:3003";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Invalid::new("has no port", fix));
    };
    let port = port
        .parse()
        .map_err(|_| Invalid::new("has a port that is not a number from 0 to 65535", fix))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').unwrap_or(""),
        None if host.contains(':') => return Err(Invalid::new("has an IPv6 address without brackets", fix)),
        None => host,
    };
    if host.is_empty() || host.contains(['/', ' ', '[', ']']) {
        return Err(Invalid::new("has no host", fix));
    }
    Ok(Listen {
        host: host.to_owned(),
        port,
    })
}

/// A web URL without query and fragment, so that paths can be put after it.
pub(super) fn base_url(text: &str) -> Result<Url, Invalid> {
    let url = web_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Invalid::new(
            "has a query or a fragment",
            "write only scheme, host and path, such as https://connect.example.com/patchbay",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new(
            "carries a user name or password",
            "write it without: it is shown to browsers and providers",
        ));
    }
    Ok(url)
}

pub(super) fn web_url(text: &str) -> Result<Url, Invalid> {
    let fix = "write a whole URL, such as https://connect.example.com";
    let url = Url::parse(text.trim()).map_err(|error| Invalid::new(format!("is not a URL: {error}"), fix))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Invalid::new("is not an http: or https: URL", fix));
    }
    Ok(url)
}

/// A source of `frame-ancestors` (CSP Level 3 §6.4.2): `'self'`, a scheme, or scheme and host, with a wildcard perhaps.
pub(super) fn frame_ancestor(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let is_host = host.is_some_and(|host| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*' | ':' | '[' | ']');
        !host.is_empty() && host.chars().all(allowed)
    });
    if is_host || matches!(text, "'self'" | "https:" | "http:" | "*") {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(
        "is not a site",
        "write scheme and host, such as https://app.example.com or https://*.example.com",
    ))
}

pub(super) fn absolute_path(text: &str) -> Result<String, Invalid> {
    if text.starts_with('/') && !text.contains(['?', '#', ' ']) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(
        "is not a path of a URL",
        "start it with a slash, such as /ws",
    ))
}

pub(super) fn count(text: &str) -> Result<u32, Invalid> {
    text.parse().map_err(|_| {
        Invalid::new(
            "is not a whole number from 0 to 4294967295",
            "write digits only, such as 2000",
        )
    })
}

pub(super) fn at_least_one(text: &str) -> Result<u32, Invalid> {
    match count(text)? {
        0 => Err(Invalid::new("is 0", "write 1 or more")),
        number => Ok(number),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Invalid::new("is neither true nor false", "write true or false")),
    }
}

pub(super) fn choice(text: &str, words: &'static [&'static str]) -> Result<&'static str, Invalid> {
    words.iter().find(|word| **word == text).copied().ok_or_else(|| {
        Invalid::new(
            "is not one of the choices",
            format!("write {}", words.join(" or ")),
        )
    })
}

/// `1h30m`: numbers, each with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, Invalid> {
    let invalid = || {
        Invalid::new(
            "is not a duration",
            "write a number with its unit: 500ms, 30s, 5m, 2h or 3d",
        )
    };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let milliseconds = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(invalid()),
        };
        rest = &rest[letters..];
        let part = number.checked_mul(milliseconds).ok_or_else(invalid)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(invalid)?;
    }
    if total > Duration::from_hours(24 * 366) {
        return Err(Invalid::new("is longer than a year", "write a shorter time"));
    }
    Ok(total)
}

pub(super) fn size(text: &str) -> Result<u64, Invalid> {
    let invalid = || {
        Invalid::new(
            "is not a size",
            "write a number with its unit: 512kb, 75mb or 1gb (powers of 1024)",
        )
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..digits].parse().map_err(|_| invalid())?;
    let factor: u64 = match lower[digits..].trim() {
        "" | "b" => 1,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        _ => return Err(invalid()),
    };
    match number.checked_mul(factor) {
        Some(bytes) if (1..=1 << 40).contains(&bytes) => Ok(bytes),
        _ => Err(Invalid::new(
            "is not between 1 byte and 1024 gb",
            "write a size in between",
        )),
    }
}

/// A host as the lists of the address guard take it.
pub(super) fn host(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    let is_host = !text.is_empty()
        && text.len() <= 255
        && text.chars().all(|char| {
            char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ':' | '/' | '[' | ']' | '*')
        });
    if is_host {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new(
            "is no host",
            "write api.example.com, .example.com, an address or a range",
        ))
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, Invalid> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
        Invalid::new(
            "is not an IP range",
            "write CIDR notation, such as 10.0.0.0/8 or fd00::/8",
        )
    })
}

pub(super) fn private_networks(items: &[String]) -> Result<PrivateNetworks, Invalid> {
    if let [word] = items
        && let Ok(on) = switch(word)
    {
        return Ok(if on {
            PrivateNetworks::AllowPrivate
        } else {
            PrivateNetworks::Deny
        });
    }
    let ranges = items
        .iter()
        .map(|item| network(item))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|invalid| {
            Invalid::new(
                "is neither true, false nor IP ranges",
                format!("{}; or true for loopback and private ranges", invalid.fix),
            )
        })?;
    Ok(if ranges.is_empty() {
        PrivateNetworks::Deny
    } else {
        PrivateNetworks::Cidrs(ranges)
    })
}

pub(super) fn encryption_key(text: &str) -> Result<EncryptionKey, Invalid> {
    let fix = "make one with `head -c 32 /dev/urandom | base64`";
    let bytes = BASE64
        .decode(text.trim().as_bytes())
        .map_err(|_| Invalid::new("is not base64", fix))?;
    let bytes = Zeroizing::new(bytes);
    let key: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| Invalid::new(format!("has {} bytes instead of 32", bytes.len()), fix))?;
    Ok(EncryptionKey::new(key))
}

/// API keys are UUID v4 in lower case: clients are matched by the exact text.
pub(super) fn api_key(text: &str) -> Result<Secret, Invalid> {
    let fix = "make one with `uuidgen -r | tr A-Z a-z`";
    let uuid = Uuid::try_parse(text).map_err(|_| Invalid::new("is not a UUID", fix))?;
    if uuid.get_version_num() != 4 || uuid.get_variant() != uuid::Variant::RFC4122 {
        return Err(Invalid::new("is not a UUID of version 4", fix));
    }
    if uuid.hyphenated().to_string() != text {
        return Err(Invalid::new(
            "is not written in lower case with hyphens",
            "write it as 8-4-4-4-12 lower-case hexadecimal digits",
        ));
    }
    Ok(Secret::new(text))
}

pub(super) fn environment_name(text: &str) -> Result<EnvironmentName, Invalid> {
    EnvironmentName::parse(text).map_err(|error| {
        Invalid::new(
            format!("{error}, so it cannot name an environment"),
            "use lower-case letters, digits, - and _",
        )
    })
}

/// A colour that cannot break out of a style sheet.
pub(super) fn colour(text: &str) -> Result<(), Invalid> {
    let hex = |digits: &str| {
        matches!(digits.len(), 3 | 4 | 6 | 8) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let function = |text: &str| {
        let inner = ["rgb(", "rgba(", "hsl(", "hsla("]
            .iter()
            .find_map(|name| text.strip_prefix(name)?.strip_suffix(')'));
        inner.is_some_and(|inner| {
            !inner.is_empty()
                && inner
                    .chars()
                    .all(|c| c.is_ascii_digit() || matches!(c, ' ' | ',' | '.' | '%' | '/'))
        })
    };
    let name =
        |text: &str| (3..=24).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    match text.strip_prefix('#') {
        Some(digits) if hex(digits) => Ok(()),
        None if function(text) || name(text) => Ok(()),
        _ => Err(Invalid::new(
            "is not a colour",
            "write #rrggbb, rgb(…), hsl(…) or a colour's name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok<T: fmt::Debug + PartialEq>(actual: &Result<T, Invalid>, expected: &T) {
        assert_eq!(actual.as_ref(), Ok(expected));
    }

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("127.0.0.1:3003", "127.0.0.1", 3003),
            ("[::1]:0", "::1", 0),
            ("localhost:65535", "localhost", 65535),
        ] {
            let parsed = listen(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
        for text in [
            "",
            "3003",
            "127.0.0.1",
            "127.0.0.1:65536",
            "::1:80",
            ":80",
            "[]:80",
            "a b:1",
        ] {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_and_sizes() {
        ok(&duration("1h30m"), &Duration::from_mins(90));
        ok(&duration("500ms"), &Duration::from_millis(500));
        ok(&duration("0s"), &Duration::ZERO);
        for text in [
            "",
            "10",
            "s",
            "1x",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "400d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        ok(&size("75mb"), &(75 << 20));
        ok(&size("1"), &1);
        ok(&size("2 KB"), &2048);
        for text in ["", "0", "mb", "1tb", "-1", "99999999999gb"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        ok(&private_networks(&list("true")), &PrivateNetworks::AllowPrivate);
        ok(&private_networks(&list("off")), &PrivateNetworks::Deny);
        ok(
            &private_networks(&list("10.0.0.0/8, ::1")),
            &PrivateNetworks::Cidrs(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
        );
        assert!(private_networks(&list("true,10.0.0.0/8")).is_err());
        assert!(network("10.0.0.0/33").is_err());
    }

    #[test]
    fn keys() {
        ok(
            &encryption_key(&BASE64.encode(&[7; 32])),
            &EncryptionKey::new([7; 32]),
        );
        assert!(
            encryption_key(&BASE64.encode(&[7; 31]))
                .unwrap_err()
                .reason
                .contains("31 bytes")
        );
        assert!(encryption_key("%").is_err());
        assert!(api_key("3f2b8b56-7b1a-4d70-9a3e-0d5f4a0c1b2e").is_ok());
        for text in [
            "",
            "x",
            "3F2B8B56-7B1A-4D70-9A3E-0D5F4A0C1B2E",
            "3f2b8b567b1a4d709a3e0d5f4a0c1b2e",
            "3f2b8b56-7b1a-1d70-9a3e-0d5f4a0c1b2e",
            "3f2b8b56-7b1a-4d70-0a3e-0d5f4a0c1b2e",
        ] {
            assert!(api_key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_and_colours() {
        assert!(base_url("https://a.example/x").is_ok());
        for text in ["", "a.example", "ftp://a", "https://a/?x=1", "https://u:p@a/"] {
            assert!(base_url(text).is_err(), "{text}");
        }
        for text in [
            "#00B2E3",
            "#fff",
            "rgb(1, 2, 3)",
            "hsl(120 50% 50% / 0.5)",
            "teal",
        ] {
            assert!(colour(text).is_ok(), "{text}");
        }
        for text in ["", "#12345", "red;}", "url(x)", "rgb(var(--x))", "expression(1)"] {
            assert!(colour(text).is_err(), "{text}");
        }
    }
}
