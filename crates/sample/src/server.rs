//! State, wiring and the handle that tests and the demo hold.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use serde::{Deserialize, Serialize};

use crate::behaviour::{Behaviours, Failure, Gate, Grant, TokenBehaviour};
use crate::counts::{Counts, TokenRequest};
use crate::data::Data;
use crate::hooks::{Hook, HookAnswer, Received};
use crate::tokens::{Tokens, World};
use crate::{CLIENT_ID, CLIENT_SECRET, admin, api, hooks, logins, oauth, probe, token};

/// How a sample provider starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long access tokens live.
    pub token_life: Duration,
    /// The person whose account it is.
    pub person: String,
    /// Their e-mail address.
    pub email: String,
    /// Redirect URIs of the registered client; empty accepts any http(s) URL.
    pub redirect_uris: Vec<String>,
    /// Where browsers and clients find it, if not at the listener's own address.
    pub base_url: Option<String>,
    /// How it behaves at first.
    pub behaviours: Behaviours,
}

impl Default for Options {
    /// Tokens of 60 s, so that a refresh can be watched; everything behaves.
    fn default() -> Self {
        Self {
            token_life: Duration::from_mins(1),
            person: "Ada Eklund".to_owned(),
            email: "ada.eklund@kestrel-finch.example".to_owned(),
            redirect_uris: Vec::new(),
            base_url: None,
            behaviours: Behaviours::default(),
        }
    }
}

/// A running sample provider. Cheap to clone; it runs until [`SampleHandle::stop`] or the end of the ambient tasks.
#[derive(Clone, Debug)]
pub struct SampleHandle {
    /// Where it is, without a trailing slash.
    pub base_url: String,
    state: Arc<State>,
    stop: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ambient: Ambient,
    pub(crate) options: Options,
    pub(crate) base_url: String,
    behaviours: Mutex<Behaviours>,
    clients: Mutex<HashMap<String, RegisteredClient>>,
    tokens: Mutex<Tokens>,
    data: Mutex<Data>,
    log: Mutex<Vec<TokenRequest>>,
    hooks: watch::Sender<HashMap<String, Hook>>,
    counts: watch::Sender<Counts>,
    closed: watch::Sender<HashSet<Gate>>,
}

/// A client beside the one that is always there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegisteredClient {
    /// Its secret; none for a public client (RFC 6749 §2.1).
    pub secret: Option<String>,
    /// How the provider behaves to it.
    pub behaviours: Behaviours,
}

/// Marks a response that is not to be sent: the connection ends instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut;

/// Serves the sample provider on `listener`, in the background, for as long as `ambient`'s tasks run.
pub fn serve(listener: TcpListener, ambient: &Ambient, options: Options) -> io::Result<SampleHandle> {
    let own = format!("http://{}", listener.local_addr()?);
    let base_url = options
        .base_url
        .clone()
        .unwrap_or(own)
        .trim_end_matches('/')
        .to_owned();
    let state = Arc::new(State {
        behaviours: Mutex::new(options.behaviours.clone()),
        clients: Mutex::new(HashMap::from([(
            CLIENT_ID.to_owned(),
            RegisteredClient {
                secret: Some(CLIENT_SECRET.to_owned()),
                behaviours: Behaviours::default(),
            },
        )])),
        tokens: Mutex::default(),
        data: Mutex::new(Data::new()),
        log: Mutex::default(),
        hooks: watch::Sender::default(),
        counts: watch::Sender::default(),
        closed: watch::Sender::new(HashSet::from([Gate::Slow])),
        base_url: base_url.clone(),
        ambient: ambient.clone(),
        options,
    });
    let router = Router::new()
        .merge(oauth::routes())
        .merge(token::routes())
        .merge(logins::routes())
        .merge(api::routes())
        .merge(probe::routes())
        .merge(hooks::routes())
        .merge(admin::routes())
        .with_state(Arc::clone(&state));
    let stop = ambient.tasks.stopping().child_token();
    let stopped = stop.clone();
    let tasks = ambient.tasks.clone();
    ambient.tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                // A failed accept is the client's loss, or too many open files: the next one may work.
                accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    tasks.spawn(async move {
                        tokio::select! {
                            () = stopped.cancelled() => {}
                            () = converse(socket, router) => {}
                        }
                    });
                }
            }
        }
    });
    Ok(SampleHandle {
        base_url,
        state,
        stop,
    })
}

async fn converse(socket: TcpStream, router: Router) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let response: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            let Ok(response) = response;
            // An error here makes hyper close the connection without a word.
            if response.extensions().get::<Cut>().is_some() {
                Err("cut on purpose")
            } else {
                Ok(response)
            }
        }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().preserve_header_case(true);
    // Clients that go away are their own business.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        self.ambient.now()
    }

    /// The API's clock, which may differ from the token endpoint's, as `client` experiences it.
    pub(crate) fn api_now(&self, client: Option<&str>) -> Timestamp {
        let skew = self.with_behaviours(client, |behaviours| behaviours.clock_skew_seconds);
        self.now()
            .checked_add(SignedDuration::from_secs(skew))
            .unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn world(&self) -> World<'_> {
        World {
            now: self.now(),
            entropy: &*self.ambient.entropy,
            life: self.options.token_life,
        }
    }

    pub(crate) fn behaviours(&self) -> MutexGuard<'_, Behaviours> {
        lock(&self.behaviours)
    }

    /// Reads or changes how the provider behaves to `client`.
    pub(crate) fn with_behaviours<T>(
        &self,
        client: Option<&str>,
        act: impl FnOnce(&mut Behaviours) -> T,
    ) -> T {
        let mut clients = lock(&self.clients);
        match client
            .filter(|id| *id != CLIENT_ID)
            .and_then(|id| clients.get_mut(id))
        {
            Some(registered) => act(&mut registered.behaviours),
            None => act(&mut self.behaviours()),
        }
    }

    /// Whether there is such a client, and this is its secret.
    pub(crate) fn knows(&self, client: &str, secret: Option<&str>) -> bool {
        let clients = lock(&self.clients);
        clients.get(client).is_some_and(|known| match &known.secret {
            Some(known) => secret == Some(known),
            None => secret.is_none_or(str::is_empty),
        })
    }

    pub(crate) fn secret_of(&self, client: &str) -> Option<String> {
        lock(&self.clients).get(client)?.secret.clone()
    }

    pub(crate) fn has_client(&self, client: &str) -> bool {
        lock(&self.clients).contains_key(client)
    }

    pub(crate) fn register(&self, id: &str, client: RegisteredClient) {
        lock(&self.clients).insert(id.to_owned(), client);
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    pub(crate) fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Vec<TokenRequest>> {
        lock(&self.log)
    }

    pub(crate) fn hooks(&self) -> &watch::Sender<HashMap<String, Hook>> {
        &self.hooks
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(crate) fn count(&self, act: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(act);
    }

    /// Waits while `gate` is closed.
    pub(crate) async fn pass(&self, gate: &Gate) {
        let mut closed = self.closed.subscribe();
        // The sender lives in this very state, so the channel cannot close meanwhile.
        let _ = closed.wait_for(|closed| !closed.contains(gate)).await;
    }

    pub(crate) fn set_gate(&self, gate: Gate, open: bool) {
        self.closed.send_modify(|closed| {
            if open {
                closed.remove(&gate);
            } else {
                closed.insert(gate);
            }
        });
    }

    pub(crate) fn open_all_gates(&self) {
        self.closed.send_modify(HashSet::clear);
    }
}

impl SampleHandle {
    /// A URL on this provider.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Changes how the provider behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviours)) {
        change(&mut self.state.behaviours());
    }

    /// Changes how one grant is answered.
    pub fn behave_for(&self, grant: Grant, change: impl FnOnce(&mut TokenBehaviour)) {
        change(self.state.behaviours().of(grant));
    }

    /// Registers a client, or replaces one.
    pub fn register(&self, id: &str, client: RegisteredClient) {
        self.state.register(id, client);
    }

    /// Changes how the provider behaves to one client. To one that is not registered: to all that have no behaviour of
    /// their own.
    pub fn behave_to(&self, client: &str, change: impl FnOnce(&mut Behaviours)) {
        self.state.with_behaviours(Some(client), change);
    }

    /// One client's token requests so far, in order of arrival.
    pub fn requests_of(&self, client: &str) -> Vec<TokenRequest> {
        let log = self.state.log();
        log.iter()
            .filter(|request| request.client.as_deref() == Some(client))
            .cloned()
            .collect()
    }

    /// Waits until one client has made at least `count` token requests.
    pub async fn wait_for_requests_of(&self, client: &str, count: usize) {
        let mut counts = self.state.counts.subscribe();
        // The sender lives as long as this handle.
        let _ = counts.wait_for(|_| self.requests_of(client).len() >= count).await;
    }

    /// Makes the next requests of a grant go wrong, one after the other.
    pub fn fail_next(&self, grant: Grant, failures: impl IntoIterator<Item = Failure>) {
        self.behave_for(grant, |behaviour| behaviour.next_failures.extend(failures));
    }

    /// How often each kind of request has arrived.
    pub fn counts(&self) -> Counts {
        self.state.counts()
    }

    /// Waits until the counts satisfy a condition.
    pub async fn wait_for(&self, condition: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.state.counts.subscribe();
        match counts.wait_for(condition).await {
            Ok(counts) => *counts,
            // The sender lives as long as this handle.
            Err(_) => self.counts(),
        }
    }

    /// All token requests so far, in order of arrival.
    pub fn token_requests(&self) -> Vec<TokenRequest> {
        self.state.log().clone()
    }

    /// Makes requests wait at `gate` from now on.
    pub fn hold(&self, gate: Gate) {
        self.state.set_gate(gate, false);
    }

    /// Lets go who waits at `gate`, and everybody after.
    pub fn release(&self, gate: Gate) {
        self.state.set_gate(gate, true);
    }

    /// Revokes everything that was issued, as a person does in their account's settings.
    pub fn revoke_all(&self) {
        self.state.tokens().revoke_all();
    }

    /// Makes every access token expire now; refresh tokens stay.
    pub fn expire_access_tokens(&self) {
        // So long ago that no skew of a client's clock brings them back.
        self.state.tokens().expire_access(Timestamp::MIN);
    }

    /// Loses the newest refresh token of every grant: a rotation that never took hold.
    pub fn forget_newest_refresh_tokens(&self) {
        self.state.tokens().forget_newest();
    }

    /// Issues tokens as if a person had gone through the page: the JSON of the token endpoint's answer, for tests that
    /// import a connection.
    pub fn issue(&self, scope: &str) -> serde_json::Value {
        self.issue_to(CLIENT_ID, scope)
    }

    /// [`SampleHandle::issue`] for another client.
    pub fn issue_to(&self, client: &str, scope: &str) -> serde_json::Value {
        token::issue_directly(&self.state, client, scope)
    }

    /// A client's own token, as if it had asked for one.
    pub fn issue_client_token(&self, client: &str) -> serde_json::Value {
        token::issue_client_token(&self.state, client)
    }

    /// Whether the API takes this access token now.
    pub fn accepts(&self, access_token: &str) -> bool {
        let client = self.state.tokens().client_of(access_token);
        let now = self.state.api_now(client.as_deref());
        self.state.tokens().check(access_token, now).is_ok()
    }

    /// What the API's clock shows to a client.
    pub fn api_time_for(&self, client: &str) -> Timestamp {
        self.state.api_now(Some(client))
    }

    /// Revokes the grant of a refresh token, as its person does in their account's settings.
    pub fn revoke(&self, refresh_token: &str) {
        self.state.tokens().revoke(refresh_token);
    }

    /// Sets how `/hooks/<name>` answers the next deliveries; 200 after that.
    pub fn script_hook(&self, name: &str, answers: impl IntoIterator<Item = HookAnswer>) {
        let answers: VecDeque<_> = answers.into_iter().collect();
        self.state
            .hooks
            .send_modify(|hooks| hooks.entry(name.to_owned()).or_default().answers = answers);
    }

    /// What `/hooks/<name>` has received.
    pub fn received(&self, name: &str) -> Vec<Received> {
        self.state
            .hooks
            .borrow()
            .get(name)
            .map(|hook| hook.received.clone())
            .unwrap_or_default()
    }

    /// Waits until `/hooks/<name>` has received at least `count` deliveries.
    pub async fn wait_for_received(&self, name: &str, count: usize) -> Vec<Received> {
        let mut hooks = self.state.hooks.subscribe();
        let enough =
            |hooks: &HashMap<String, Hook>| hooks.get(name).map_or(0, |hook| hook.received.len()) >= count;
        drop(hooks.wait_for(enough).await);
        self.received(name)
    }

    /// Stops serving: connections end, the port is freed.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Completes once [`SampleHandle::stop`] was called or shutdown began.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned().boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
