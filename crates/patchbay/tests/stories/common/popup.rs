//! A browser that waits on a WebSocket for what becomes of its popup.

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Answer, TestServer};

/// A socket and a popup that belong together.
pub struct Popup {
    /// `ws_client_id`.
    pub id: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Popup {
    pub async fn open(server: &TestServer) -> Self {
        let url = format!("ws://127.0.0.1:{}/", server.port());
        let (socket, _) = connect_async(url).await.unwrap();
        let mut popup = Self {
            id: String::new(),
            socket,
        };
        let ack = popup.outcome().await;
        assert_eq!(ack["message_type"], "connection_ack");
        ack["ws_client_id"].as_str().unwrap().clone_into(&mut popup.id);
        popup
    }

    /// The next frame.
    pub async fn outcome(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?} is no outcome"),
            }
        }
    }

    /// Begins: the answer of `/oauth/connect`, and the cookie it sets.
    pub async fn begin(&self, server: &TestServer, session: &str, integration: &str) -> (Answer, String) {
        let target = format!(
            "/oauth/connect/{integration}?ws_client_id={}&connect_session_token={session}",
            self.id
        );
        let answer = server.api.anonymous().get(&target).await;
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        (answer, cookie)
    }
}

/// The state that a cookie of `/oauth/connect` binds to the browser.
pub fn state_of(cookie: &str) -> &str {
    let name = cookie.split('=').next().unwrap();
    name.strip_prefix("oauth2-").unwrap()
}
