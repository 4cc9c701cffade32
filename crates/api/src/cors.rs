//! CORS (api-core §1.4): any origin, no credentials; Connect UI telemetry apart.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

const METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE";
const ALLOWED: &str = "Authorization, Content-Type, Accept, Origin, X-Requested-With, Nango-Activity-Log-Id, \
    Nango-Is-Dry-Run, Nango-Is-Sync, Provider-Config-Key, Connection-Id, Sentry-Trace, Baggage";
// Values of every answer: checked once, shared afterwards.
static EXPOSED: HeaderValue = HeaderValue::from_static(
    "Authorization, Etag, Content-Type, Content-Length, X-Nango-Signature, X-RateLimit-Limit, \
     X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After",
);
static ANY: HeaderValue = HeaderValue::from_static("*");

/// Who may read a route's answers from a browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Every origin, without credentials.
    #[default]
    Public,
    /// The Connect UI's origin, with credentials.
    ConnectUi,
    /// The answering origin only.
    SameOrigin,
}

/// The headers, ready to be copied.
#[derive(Clone, Debug)]
pub struct CorsHeaders {
    connect_ui: HeaderValue,
}

impl CorsHeaders {
    /// `connect_ui_origin` is the origin the Connect UI is served from.
    pub fn new(connect_ui_origin: &str) -> Self {
        Self {
            connect_ui: HeaderValue::try_from(connect_ui_origin).unwrap_or(HeaderValue::from_static("null")),
        }
    }

    /// The answer to any `OPTIONS`.
    pub fn preflight(&self, cors: Cors) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.apply(cors, headers);
        let (methods, allowed, age) = match cors {
            Cors::Public => (METHODS, ALLOWED, "600"),
            Cors::ConnectUi => ("POST", "Authorization, Content-type", "36000"),
            Cors::SameOrigin => return response,
        };
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, age);
        response
    }

    /// What every other response carries, errors included.
    pub fn apply(&self, cors: Cors, headers: &mut HeaderMap) {
        match cors {
            Cors::Public => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY.clone());
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED.clone());
            }
            Cors::ConnectUi => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.connect_ui.clone());
                set(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
                set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, "content-type");
                set(headers, header::VARY, "Origin");
            }
            Cors::SameOrigin => {}
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
