//! Whom we trust, and who we are when a server asks.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::BASE64;
use rustls::client::WantsClientCert;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::client::Tls;

/// Makes aws-lc-rs the process's TLS cryptography, once. Harmless to call again.
pub fn ensure_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race to another caller leaves a provider installed, which is all we want.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
}

/// The certificate authorities whose servers are believed. Cheap to clone; load once and share.
#[derive(Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    #[cfg(feature = "legacy-tls")]
    legacy: crate::legacy_tls::Authorities,
}

/// How a connection is secured.
pub(crate) enum Handshake {
    Rustls(Box<ClientConfig>),
    #[cfg(feature = "legacy-tls")]
    OpenSsl(openssl::ssl::SslConnector),
}

impl Handshake {
    pub(crate) fn rustls(config: ClientConfig) -> Self {
        Self::Rustls(Box::new(config))
    }
}

/// A file of extra authorities that holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificates {
    /// No `BEGIN CERTIFICATE` block, or one that is not base64.
    #[error("no readable PEM certificate found")]
    Unreadable,
    /// A certificate that cannot be a trust anchor.
    #[error("certificate {0} of the file is not a usable authority")]
    Unusable(usize),
}

impl Trust {
    /// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` count); Mozilla's, built in, where the system
    /// has none.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self {
            roots: Arc::new(roots),
            #[cfg(feature = "legacy-tls")]
            legacy: crate::legacy_tls::Authorities::system(),
        }
    }

    /// Nobody: a base for [`Trust::with_pem`] where only one's own authority counts.
    pub fn nobody() -> Self {
        Self {
            roots: Arc::new(RootCertStore::empty()),
            #[cfg(feature = "legacy-tls")]
            legacy: crate::legacy_tls::Authorities::default(),
        }
    }

    /// Also believes the authorities in a PEM file.
    pub fn with_pem(mut self, pem: &str) -> Result<Self, InvalidCertificates> {
        let mut roots = Arc::unwrap_or_clone(self.roots);
        let certificates = certificates(pem).ok_or(InvalidCertificates::Unreadable)?;
        for (index, certificate) in certificates.into_iter().enumerate() {
            #[cfg(feature = "legacy-tls")]
            self.legacy.add(&certificate);
            roots
                .add(certificate)
                .map_err(|_| InvalidCertificates::Unusable(index + 1))?;
        }
        self.roots = Arc::new(roots);
        Ok(self)
    }

    /// TLS that verifies servers and shows `identity`, if any, to those that ask.
    pub(crate) fn handshake(
        &self,
        identity: Option<&Identity>,
        tls: Tls,
    ) -> Result<Handshake, InvalidIdentity> {
        match (tls, identity) {
            #[cfg(feature = "legacy-tls")]
            (Tls::Legacy, identity) => self.legacy.configured(identity).map(Handshake::OpenSsl),
            (_, Some(identity)) => self.identified(identity).map(Handshake::rustls),
            (_, None) => Ok(Handshake::rustls(self.anonymous())),
        }
    }

    /// A TLS configuration that verifies servers and has nothing to show them.
    pub(crate) fn anonymous(&self) -> ClientConfig {
        self.verifying().with_no_client_auth()
    }

    /// A TLS configuration that verifies servers and shows `identity` to those that ask.
    fn identified(&self, identity: &Identity) -> Result<ClientConfig, InvalidIdentity> {
        let Identity { chain, key, .. } = identity;
        let config = self
            .verifying()
            .with_client_auth_cert(chain.to_vec(), key.clone_key());
        config.map_err(|_| InvalidIdentity::Mismatch)
    }

    fn verifying(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs supports the default TLS versions")
            .with_root_certificates(Arc::clone(&self.roots))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} authorities)", self.roots.len())
    }
}

/// Our certificate and key for servers that ask (mutual TLS). Cheap to clone; `Debug` shows the fingerprint only.
#[derive(Clone)]
pub struct Identity {
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKeyDer<'static>>,
    fingerprint: [u8; 32],
}

/// Why a certificate and key cannot be used. The code on the wire is `invalid_certificate_or_key_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The certificate text.
    #[error("the client certificate is not in PEM format")]
    Certificate,
    /// The key text.
    #[error("the client private key is not in PEM format")]
    Key,
    /// A key that needs a passphrase.
    #[error("the client private key is encrypted; remove its passphrase")]
    EncryptedKey,
    /// Each is readable but they do not belong together, or the key's kind is not supported.
    #[error("the client private key does not fit the client certificate")]
    Mismatch,
}

impl Identity {
    /// Reads PEM text as people paste it: any white space, literal `\n`, line breaks lost.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, InvalidIdentity> {
        let chain = certificates(certificate).ok_or(InvalidIdentity::Certificate)?;
        let key = private_key(key)?;
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in &chain {
            context.update(certificate);
        }
        // The key takes part so that a corrected key is not mistaken for the wrong one.
        context.update(key.secret_der());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        let identity = Self {
            chain: chain.into(),
            key: Arc::new(key),
            fingerprint,
        };
        Trust::nobody().identified(&identity)?;
        Ok(identity)
    }

    /// The certificates, our own first, and the key, each in DER.
    #[cfg(feature = "legacy-tls")]
    pub(crate) fn parts(&self) -> (&[CertificateDer<'static>], &[u8]) {
        (&self.chain, self.key.secret_der())
    }

    /// Tells pools of different identities apart.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = data_encoding::HEXLOWER.encode(&self.fingerprint[..4]);
        write!(f, "Identity({shown}…)")
    }
}

/// All `CERTIFICATE` blocks; `None` if there is none or one is damaged.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for block in blocks(pem) {
        if block.label.ends_with("CERTIFICATE") {
            found.push(CertificateDer::from(block.der()?));
        }
    }
    (!found.is_empty()).then_some(found)
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, InvalidIdentity> {
    let key = blocks(pem)
        .find(|block| block.label.ends_with("PRIVATE KEY"))
        .ok_or(InvalidIdentity::Key)?;
    if key.label.starts_with("ENCRYPTED") || key.text.contains("ENCRYPTED") {
        return Err(InvalidIdentity::EncryptedKey);
    }
    let der = key.der().ok_or(InvalidIdentity::Key)?;
    match key.label {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der).into()),
        _ => Err(InvalidIdentity::Key),
    }
}

struct Block<'a> {
    label: &'a str,
    text: &'a str,
}

impl Block<'_> {
    fn der(&self) -> Option<Vec<u8>> {
        let text = self.text.replace("\\r", "").replace("\\n", "");
        let text: String = text.chars().filter(|char| !char.is_whitespace()).collect();
        BASE64.decode(text.as_bytes()).ok()
    }
}

/// The PEM blocks of a text, wherever its line breaks went.
fn blocks(mut text: &str) -> impl Iterator<Item = Block<'_>> {
    std::iter::from_fn(move || {
        let (_, rest) = text.split_once("-----BEGIN ")?;
        let (label, rest) = rest.split_once("-----")?;
        let (body, rest) = rest.split_once("-----END ")?;
        text = rest;
        Some(Block { label, text: body })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["client.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pasted_certificate_is_read_whatever_happened_to_its_line_breaks() {
        let (certificate, key) = pair();
        let plain = Identity::from_pem(&certificate, &key).unwrap();
        for (from, to) in [
            ("\n", "\\n"),
            ("\n", "\\r\\n"),
            ("\n", " "),
            ("\n", "\r\n"),
            ("\n", ""),
        ] {
            let pasted = Identity::from_pem(&certificate.replace(from, to), &key.replace(from, to));
            assert_eq!(pasted.unwrap().fingerprint(), plain.fingerprint(), "{to:?}");
        }
        let indented = Identity::from_pem(&format!("  {certificate}\t"), &format!("\n\n{key}"));
        assert_eq!(indented.unwrap().fingerprint(), plain.fingerprint());
    }

    #[test]
    fn unusable_pairs_are_named() {
        let (certificate, key) = pair();
        let (_, other) = pair();
        let check = |certificate: &str, key: &str, expect| {
            assert_eq!(Identity::from_pem(certificate, key).unwrap_err(), expect);
        };
        check("", &key, InvalidIdentity::Certificate);
        check("not a certificate", &key, InvalidIdentity::Certificate);
        check(
            &certificate.replace("MII", "M?I"),
            &key,
            InvalidIdentity::Certificate,
        );
        check(&certificate, "", InvalidIdentity::Key);
        check(&certificate, &certificate, InvalidIdentity::Key);
        check(
            &certificate,
            &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
            InvalidIdentity::EncryptedKey,
        );
        check(&certificate, &other, InvalidIdentity::Mismatch);
    }

    #[test]
    fn nothing_secret_is_in_debug() {
        let (certificate, key) = pair();
        let shown = format!("{:?}", Identity::from_pem(&certificate, &key).unwrap());
        assert!(shown.len() < 30, "{shown}");
    }

    #[test]
    fn extra_authorities_must_be_readable() {
        let (certificate, _) = pair();
        assert_eq!(
            format!("{:?}", Trust::nobody().with_pem(&certificate).unwrap()),
            "Trust(1 authorities)"
        );
        assert_eq!(
            Trust::nobody().with_pem("x").unwrap_err(),
            InvalidCertificates::Unreadable
        );
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert_eq!(
            Trust::nobody().with_pem(broken).unwrap_err(),
            InvalidCertificates::Unusable(1)
        );
    }
}
