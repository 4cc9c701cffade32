//! Binding the configured address. Connections are driven by `patchbay_api::server`.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Listen;

/// Connections that wait to be accepted. With the standard library's 128, a burst of clients is answered with resets;
/// the system lowers it to what it allows.
const BACKLOG: u32 = 4096;

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
    let bound = bind_any(&addresses);
    bound.map_err(|cause| ListenError::Bind {
        listen: listen.clone(),
        cause,
    })
}

fn bind_any(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen_at(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart need not wait for what is left of the last connections.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
