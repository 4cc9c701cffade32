//! A server with a connection to a plain and one to a TLS upstream, all processes of their own.

use std::collections::BTreeMap;
use std::path::Path;

use patchbay_types::integrations::IntegrationSecrets;
use tempfile::TempDir;

use super::Setting;
use crate::neighbours::{Nginx, Upstream};
use crate::process::{Server, Spec, free_address};
use crate::seed::{self, API_KEY, House, PLAIN, SECURE};
use crate::wire::request;

pub(super) struct ProxyStage {
    pub(super) server: Server,
    pub(super) upstream: Upstream,
    directory: TempDir,
}

impl ProxyStage {
    pub(super) async fn set(setting: &Setting) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("patchbay-prove-").tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let certificate = at("upstream.pem");
        let upstream = Upstream::start(&setting.bench, &certificate).await?;
        let (plain, secure) = (
            seed::api_key_provider(&format!("http://{}", upstream.http)),
            seed::api_key_provider(&format!("https://{}", upstream.https)),
        );
        seed::write_catalogue(
            &at("catalog"),
            &BTreeMap::from([(PLAIN, plain), (SECURE, secure)]),
        )?;
        let mut settings = seed::settings();
        settings.push((
            "PATCHBAY_OUTBOUND_CA_FILE".to_owned(),
            certificate.display().to_string(),
        ));
        let spec = Spec {
            program: setting.program.clone(),
            address: free_address()?,
            database_url: format!("sqlite:{}", at("patchbay.db").display()),
            data_dir: directory.path().to_owned(),
            catalog: at("catalog"),
            settings,
            log: at("server.log"),
        };
        let house = House::build(&spec.database_url, None, &setting.ambient).await?;
        for provider in [PLAIN, SECURE] {
            let integration = house.integration(provider, IntegrationSecrets::default()).await?;
            house.connections(integration, 1).await?;
        }
        house.close().await;
        let (server, _) = spec.start().await?;
        Ok(Self {
            server,
            upstream,
            directory,
        })
    }

    pub(super) async fn nginx(&self) -> anyhow::Result<Nginx> {
        Nginx::start(
            Path::new("bench/nginx.conf"),
            self.directory.path(),
            &self.upstream,
        )
        .await
    }

    pub(super) async fn strike(self) -> anyhow::Result<()> {
        self.server.stop().await
    }
}

/// The head of a proxied request, announcing a body of `length` bytes if that is any.
pub(super) fn proxied(method: &str, path: &str, provider: &str, length: u64) -> Vec<u8> {
    let mut headers = vec![
        format!("Authorization: Bearer {API_KEY}"),
        "Connection-Id: c0".to_owned(),
        format!("Provider-Config-Key: {provider}"),
    ];
    if length > 0 {
        headers.push("Content-Type: application/octet-stream".to_owned());
        headers.push(format!("Content-Length: {length}"));
    }
    request(method, &format!("/proxy{path}"), "localhost", &headers, b"")
}
