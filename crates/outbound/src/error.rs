//! Every way a request can fail, with the stable code callers and users see.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Range;
use crate::dns::DnsFailure;
use crate::redirect;
use crate::tls::InvalidIdentity;

/// What lies underneath, for logs only.
pub(crate) type Source = Arc<dyn StdError + Send + Sync>;

/// Why a request got no complete answer.
///
/// `Display` is the public half: it names the host at most, never a path, a query, a header or an internal address.
/// The chain behind [`std::error::Error::source`] is for logs. Cheap to clone, so that one failure can be given to
/// everybody who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be requested at all.
    #[error("the URL is not usable: {0}")]
    InvalidUrl(InvalidUrl),
    /// The policy forbids this target.
    #[error("{host} may not be reached: {reason}")]
    Blocked {
        /// The host as asked for.
        host: String,
        /// Which rule.
        reason: BlockReason,
    },
    /// The name does not resolve.
    #[error("getaddrinfo {} {host}", failure.code())]
    Dns {
        /// The name.
        host: String,
        /// Whether asking again may help.
        failure: DnsFailure,
    },
    /// No TCP connection came about.
    #[error("connect {} {target}", failure.code())]
    Connect {
        /// Host and port.
        target: String,
        /// The system's answer.
        failure: ConnectFailure,
        /// The system's error.
        #[source]
        source: Source,
    },
    /// The TLS handshake failed; no byte of the request was sent.
    #[error("TLS with {target} failed: {failure}")]
    Tls {
        /// Host and port.
        target: String,
        /// What was wrong.
        failure: TlsFailure,
        /// The library's error.
        #[source]
        source: Source,
    },
    /// A time limit passed.
    #[error("{target} took longer than {after:?} {phase}")]
    Timeout {
        /// Host and port.
        target: String,
        /// What was being waited for.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The connection ended before the answer was complete.
    #[error("the connection to {target} was closed {}", if *.in_body { "inside the response body" } else { "before a response" })]
    Reset {
        /// Host and port.
        target: String,
        /// Whether a response had begun.
        in_body: bool,
        /// The library's error.
        #[source]
        source: Source,
    },
    /// The other side does not speak HTTP correctly.
    #[error("{target} did not answer with valid HTTP")]
    Protocol {
        /// Host and port.
        target: String,
        /// The library's error.
        #[source]
        source: Source,
    },
    /// The request body's producer failed or went away: the caller aborted.
    #[error("the request was aborted by its caller")]
    Aborted {
        /// The producer's error.
        #[source]
        source: Source,
    },
    /// More redirects than allowed.
    #[error("more than {limit} redirects")]
    TooManyRedirects {
        /// How many were allowed.
        limit: u8,
    },
    /// A redirect that must not be followed.
    #[error("{0}")]
    Redirect(#[from] redirect::Refused),
    /// The response body is larger than the caller accepts.
    #[error("the response is larger than {limit} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The client certificate or its key cannot be used.
    #[error("{0}")]
    Identity(#[from] InvalidIdentity),
}

impl Error {
    /// A stable code, in the vocabulary applications know from Node.js where it has a word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "ERR_INVALID_URL",
            Self::Blocked { .. } => "ERR_TARGET_BLOCKED",
            Self::Dns { failure, .. } => failure.code(),
            Self::Connect { failure, .. } => failure.code(),
            Self::Tls { failure, .. } => failure.code(),
            Self::Timeout { .. } => "ETIMEDOUT",
            Self::Reset { .. } => "ECONNRESET",
            Self::Protocol { .. } => "EPROTO",
            Self::Aborted { .. } => "ERR_CANCELED",
            Self::TooManyRedirects { .. } => "ERR_FR_TOO_MANY_REDIRECTS",
            Self::Redirect(_) => "ERR_INVALID_REDIRECT",
            Self::TooLarge { .. } => "ERR_RESPONSE_TOO_LARGE",
            Self::Identity(_) => "invalid_certificate_or_key_format",
        }
    }

    /// Whether the same request may succeed later: the network failed, not the request. Says nothing about whether
    /// repeating it is safe; see [`Error::may_have_been_sent`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Dns { failure, .. } => *failure == DnsFailure::Temporary,
            Self::Connect { .. } | Self::Timeout { .. } | Self::Reset { .. } => true,
            _ => false,
        }
    }

    /// Whether the policy refused the target.
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked { .. })
    }

    /// Whether the other side may have seen (and acted on) the request. `false` is certain; `true` is a doubt.
    ///
    /// Redirects count as sent: the first hop was.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::InvalidUrl(_)
            | Self::Blocked { .. }
            | Self::Dns { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Identity(_) => false,
            Self::Timeout { phase, .. } => *phase != Phase::Connect,
            Self::Reset { .. }
            | Self::Protocol { .. }
            | Self::Aborted { .. }
            | Self::TooManyRedirects { .. }
            | Self::Redirect(_)
            | Self::TooLarge { .. } => true,
        }
    }
}

/// What makes a URL unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It does not parse.
    #[error("it does not parse")]
    Syntax,
    /// Neither http nor https.
    #[error("only http and https can be requested")]
    Scheme,
    /// No host.
    #[error("it names no host")]
    Host,
    /// A user name or password in front of the host, where it is not understood.
    #[error("a user name or password in the URL is not supported")]
    Userinfo,
    /// `CONNECT` would make a tunnel of the client.
    #[error("the CONNECT method is not supported")]
    Connect,
}

/// Which rule of the policy refused a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockReason {
    /// The address, or one the name resolves to, is of a kind that is not open.
    Address(Range),
    /// The host is on the deny list.
    Denied,
    /// There is an allow list and the host is not on it.
    NotAllowed,
}

impl fmt::Display for BlockReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(range) => write!(f, "it is {range}"),
            Self::Denied => f.write_str("it is on the deny list"),
            Self::NotAllowed => f.write_str("it is not on the allow list"),
        }
    }
}

/// Why no TCP connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nobody listens there.
    Refused,
    /// Reset during the handshake.
    Reset,
    /// The system gave up waiting.
    TimedOut,
    /// No route to the host.
    HostUnreachable,
    /// No route to the network.
    NetworkUnreachable,
    /// Anything else (file descriptors used up, firewall).
    Other,
}

impl ConnectFailure {
    /// The platform's name of the error.
    pub fn code(self) -> &'static str {
        match self {
            Self::Refused => "ECONNREFUSED",
            Self::Reset => "ECONNRESET",
            Self::TimedOut => "ETIMEDOUT",
            Self::HostUnreachable => "EHOSTUNREACH",
            Self::NetworkUnreachable => "ENETUNREACH",
            Self::Other => "ECONNABORTED",
        }
    }

    pub(crate) fn of(kind: std::io::ErrorKind) -> Self {
        use std::io::ErrorKind as Kind;
        match kind {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof => Self::Reset,
            Kind::TimedOut => Self::TimedOut,
            Kind::HostUnreachable => Self::HostUnreachable,
            Kind::NetworkUnreachable => Self::NetworkUnreachable,
            _ => Self::Other,
        }
    }
}

/// Why the TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate was revoked.
    Revoked,
    /// The server's certificate is for another name.
    WrongName,
    /// Nobody we trust signed the server's certificate.
    UnknownIssuer,
    /// The server's certificate is unusable in another way.
    BadCertificate,
    /// The server wants a client certificate, or not this one.
    ClientCertificate,
    /// The two sides found no common ground, or the server does not speak TLS.
    Handshake,
}

impl TlsFailure {
    /// The code Node.js gives this failure.
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "CERT_HAS_EXPIRED",
            Self::NotYetValid => "CERT_NOT_YET_VALID",
            Self::Revoked => "CERT_REVOKED",
            Self::WrongName => "ERR_TLS_CERT_ALTNAME_INVALID",
            Self::UnknownIssuer => "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
            Self::BadCertificate => "CERT_UNTRUSTED",
            Self::ClientCertificate => "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED",
            Self::Handshake => "EPROTO",
        }
    }

    pub(crate) fn of(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription as Alert, CertificateError as Certificate};
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                Certificate::Expired | Certificate::ExpiredContext { .. } => Self::Expired,
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => Self::NotYetValid,
                Certificate::Revoked => Self::Revoked,
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => Self::WrongName,
                Certificate::UnknownIssuer => Self::UnknownIssuer,
                _ => Self::BadCertificate,
            },
            rustls::Error::AlertReceived(
                Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::UnsupportedCertificate
                | Alert::AccessDenied,
            ) => Self::ClientCertificate,
            _ => Self::Handshake,
        }
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its certificate has expired",
            Self::NotYetValid => "its certificate is not valid yet",
            Self::Revoked => "its certificate was revoked",
            Self::WrongName => "its certificate is for another name",
            Self::UnknownIssuer => "its certificate is signed by an unknown authority",
            Self::BadCertificate => "its certificate is not valid",
            Self::ClientCertificate => "it does not accept our client certificate",
            Self::Handshake => "the handshake failed",
        })
    }
}

/// What was being waited for when a time limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name look-up, TCP and TLS.
    Connect,
    /// The response's status line.
    Response,
    /// The next piece of the response body.
    Body,
    /// The whole exchange.
    Total,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "to connect",
            Self::Response => "to respond",
            Self::Body => "to continue the response",
            Self::Total => "to answer completely",
        })
    }
}
