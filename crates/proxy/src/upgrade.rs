//! Connections that change their protocol: WebSockets (RFC 9110 §7.8, RFC 6455). The handshake passes with the
//! connection's credentials in it; afterwards bytes go both ways untouched.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use patchbay_ambient::Ambient;

/// Headers of the handshake that go both ways.
const HANDSHAKE: [HeaderName; 5] = [
    http::header::SEC_WEBSOCKET_ACCEPT,
    http::header::SEC_WEBSOCKET_EXTENSIONS,
    http::header::SEC_WEBSOCKET_KEY,
    http::header::SEC_WEBSOCKET_PROTOCOL,
    http::header::SEC_WEBSOCKET_VERSION,
];

/// Whether the caller asks for another protocol.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

/// Copies the handshake from one side's headers to the other's.
pub(crate) fn copy_handshake(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(protocol) = from.get(UPGRADE) {
        to.insert(UPGRADE, protocol.clone());
        to.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    for name in &HANDSHAKE {
        to.remove(name);
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

/// Joins both connections once both have changed over, until either ends or shutdown begins.
pub(crate) fn join(ambient: &Ambient, caller: OnUpgrade, upstream: OnUpgrade) {
    let stopping = ambient.tasks.stopping();
    ambient
        .tasks
        .spawn(stopping.run_until_cancelled_owned(async move {
            let (caller, upstream) = match tokio::try_join!(caller, upstream) {
                Ok(both) => both,
                Err(error) => {
                    tracing::debug!(%error, "a connection did not change its protocol");
                    return;
                }
            };
            let (mut caller, mut upstream) = (TokioIo::new(caller), TokioIo::new(upstream));
            if let Err(error) = tokio::io::copy_bidirectional(&mut caller, &mut upstream).await {
                tracing::debug!(%error, "an upgraded connection broke");
            }
        }));
}
