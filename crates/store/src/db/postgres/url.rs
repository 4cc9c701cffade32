//! Connection URLs: what libpq understands and the driver does not, and our own parameters.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A parsed URL.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) unnamed: bool,
}

/// Where a configuration leads, without user and password.
pub(super) fn address(config: &Config) -> String {
    let ports = config.get_ports();
    let place = |(index, host): (usize, &Host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    };
    let places: Vec<String> = config.get_hosts().iter().enumerate().map(place).collect();
    format!("PostgreSQL at {}", places.join(", "))
}

/// Parses `postgres://…`. Beside the driver's parameters it takes
/// - `sslmode=disable|allow|prefer|require|verify-ca|verify-full` with libpq's meaning: only the last two check
///   the server's certificate (both also its name, which is stricter than libpq for `verify-ca`), against
///   `sslrootcert=FILE`, or the system's trust store and, if that is empty, Mozilla's roots;
/// - `prepared_statements=false` or `pgbouncer=true`: unnamed statements from the start.
///
/// The error is for the operator and never quotes the URL, which holds a password.
pub(super) fn parse(url: &str) -> Result<Target, String> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut passed = Vec::new();
    let mut verify = false;
    let mut root_file = None;
    let mut unnamed = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            ("sslmode", "verify-ca" | "verify-full") => {
                verify = true;
                passed.push("sslmode=require".to_owned());
            }
            ("sslmode", "allow") => passed.push("sslmode=prefer".to_owned()),
            ("sslrootcert", "system") => verify = true,
            ("sslrootcert", file) => root_file = Some(file.to_owned()),
            ("prepared_statements", "false") | ("pgbouncer", "true") => unnamed = true,
            ("prepared_statements", "true") | ("pgbouncer", "false") => {}
            ("prepared_statements" | "pgbouncer", _) => {
                return Err(format!(
                    "the parameter {key} of the database URL is true or false"
                ));
            }
            _ => passed.push(pair.to_owned()),
        }
    }
    let url = if passed.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", passed.join("&"))
    };
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("the database URL: {cause}")
    })?;
    if config.get_application_name().is_none() {
        config.application_name("patchbay");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    // A server that vanished without a word is noticed in half a minute, not in the kernel's quarter of an hour.
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
    config.keepalives_idle(Duration::from_secs(30));
    Ok(Target {
        config,
        tls: tls(verify, root_file.as_deref())?,
        unnamed,
    })
}

fn tls(verify: bool, root_file: Option<&str>) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS to Postgres: {error}"))?;
    // As with libpq, a root certificate that is there is used even if nothing demands it.
    let config = if verify || root_file.is_some() {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(root_file)?), provider)
            .build()
            .map_err(|error| format!("TLS to Postgres: {error}"))?;
        builder.with_webpki_verifier(verifier).with_no_client_auth()
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Encrypt { provider }))
            .with_no_client_auth()
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        let pem = fs::read(file).map_err(|error| format!("sslrootcert={file}: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| format!("sslrootcert={file}: {error:?}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("sslrootcert={file}: {error}"))?;
        }
        return Ok(roots);
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

/// `sslmode=prefer` and `require`: encryption without proof of who is there, as libpq defines them.
#[derive(Debug)]
struct Encrypt {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Encrypt {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_the_driver_does_not_know_are_ours() {
        let target =
            parse("postgres://u:p@h:6432/d?pgbouncer=true&sslmode=verify-full&connect_timeout=2").unwrap();
        assert!(target.unnamed);
        assert_eq!(
            target.config.get_ssl_mode(),
            tokio_postgres::config::SslMode::Require
        );
        assert_eq!(target.config.get_connect_timeout(), Some(&Duration::from_secs(2)));
        assert!(!parse("postgres://u:p@h/d").unwrap().unnamed);
    }

    #[test]
    fn errors_say_what_is_wrong_without_the_password() {
        for (url, expected) in [
            ("postgres://u:hunter2@h/d?sslmode=sometimes", "sslmode"),
            ("postgres://u:hunter2@h/d?colour=red", "colour"),
            ("postgres://u:hunter2@h/d?pgbouncer=maybe", "pgbouncer"),
            (
                "postgres://u:hunter2@h/d?sslrootcert=/nowhere/ca.pem",
                "/nowhere/ca.pem",
            ),
        ] {
            let error = parse(url).err().unwrap();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }
}
