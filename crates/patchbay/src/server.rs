//! Binding the configured address. Connections are driven by `patchbay_api::server`.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::Listen;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("cannot listen on {listen}: {cause}")]
    Resolve {
        /// What was configured.
        listen: Listen,
        /// Why.
        cause: std::io::Error,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}: {cause}; set --listen, or stop what uses the port")]
    Bind {
        /// What was configured.
        listen: Listen,
        /// Why.
        cause: std::io::Error,
    },
}

/// Binds the configured address.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind(listen: &Listen) -> Result<TcpListener, ListenError> {
    let addresses = tokio::net::lookup_host((listen.host.as_str(), listen.port))
        .await
        .map_err(|cause| ListenError::Resolve {
            listen: listen.clone(),
            cause,
        })?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let bound = bind_any(&addresses).await;
    bound.map_err(|cause| ListenError::Bind {
        listen: listen.clone(),
        cause,
    })
}

async fn bind_any(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}
