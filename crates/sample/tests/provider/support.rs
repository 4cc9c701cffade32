//! A provider and somebody who talks to it.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_sample::{Behaviours, CLIENT_ID, CLIENT_SECRET, Consent, Options, SampleHandle, serve};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

pub(crate) const CALLBACK: &str = "http://localhost:3003/oauth/callback";

pub(crate) struct World {
    pub(crate) sample: SampleHandle,
    pub(crate) clock: TestClock,
    pub(crate) http: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn error(&self) -> String {
        format!(
            "{} {}",
            self.status.as_u16(),
            self.json()["error"].as_str().unwrap_or("none")
        )
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = TestClock::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behaviours = Behaviours {
            consent: Consent::Approve,
            ..Behaviours::default()
        };
        let options = Options {
            behaviours,
            ..Options::default()
        };
        let sample = serve(listener, &Ambient::test(clock.clone(), 1), options).unwrap();
        Self {
            sample,
            clock,
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    pub(crate) async fn try_send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn std::error::Error>> {
        let (parts, body) = self.http.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(self.sample.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.try_send(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    pub(crate) fn token_request(&self, parameters: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let credentials = [("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
        let body = Serializer::new(String::new())
            .extend_pairs(parameters.iter().chain(&credentials))
            .finish();
        Request::post(self.sample.url("/oauth/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    }

    pub(crate) async fn token(&self, parameters: &[(&str, &str)]) -> Answer {
        self.try_send(self.token_request(parameters)).await.unwrap()
    }

    pub(crate) async fn refresh(&self, token: &Value) -> Answer {
        let token = token["refresh_token"].as_str().unwrap();
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    pub(crate) async fn whoami(&self, token: &Value) -> StatusCode {
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        self.get("/whoami", &[("authorization", &bearer)]).await.status
    }

    /// Goes to the authorization page and returns the query of the redirect back.
    pub(crate) async fn authorize(&self, extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let common = [
            ("client_id", CLIENT_ID),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("state", "s1"),
        ];
        let query = Serializer::new(String::new())
            .extend_pairs(common.iter().chain(extra))
            .finish();
        let answer = self.get(&format!("/oauth/authorize?{query}"), &[]).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{:?}", answer.body);
        let location = Url::parse(answer.headers["location"].to_str().unwrap()).unwrap();
        assert!(location.as_str().starts_with(CALLBACK));
        location.query_pairs().into_owned().collect()
    }

    pub(crate) async fn code(&self, extra: &[(&str, &str)]) -> String {
        let back = self.authorize(extra).await;
        assert_eq!(back[1], ("state".to_owned(), "s1".to_owned()));
        assert_eq!(back[0].0, "code");
        back[0].1.clone()
    }

    pub(crate) async fn connect(&self) -> Value {
        let code = self.code(&[("scope", "contacts:read issues:read")]).await;
        let answer = self
            .token(&[
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", CALLBACK),
            ])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        answer.json()
    }
}
