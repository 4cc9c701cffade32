/// Something committed that caches or sleepers of every node must hear about.
///
/// Delivered at least once, after the commit, in no order between transactions. A subscriber that lags
/// (`RecvError::Lagged`) missed some: treat it as [`Topic::Everything`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// What kind of thing changed.
    pub topic: Topic,
    /// Which one: an id, in a form the topic's owner chooses. At most 1 KiB; a longer one is published as
    /// [`Topic::Everything`].
    pub key: String,
}

impl Notice {
    /// A notice about one thing.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "ids and literals read better without a reference"
    )]
    pub fn new(topic: Topic, key: impl ToString) -> Self {
        Self {
            topic,
            key: key.to_string(),
        }
    }

    /// "Notices may have been missed": flush every cache, look at every queue.
    pub fn everything() -> Self {
        Self {
            topic: Topic::Everything,
            key: String::new(),
        }
    }
}

macro_rules! topics {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a [`Notice`] is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Topic {
            $($(#[$doc])* $name,)*
        }

        impl Topic {
            /// Every topic.
            pub const ALL: &[Topic] = &[$(Topic::$name),*];

            /// Its name between nodes.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Topic::$name => $text,)*
                }
            }

            /// The topic of that name. A name of a newer version's is [`Topic::Everything`].
            pub fn parse(text: &str) -> Topic {
                match text {
                    $($text => Topic::$name,)*
                    _ => Topic::Everything,
                }
            }
        }
    };
}

topics! {
    /// Notices may have been missed, or another process wrote: flush all, look at all.
    Everything = "everything",
    /// Accounts and account-wide settings.
    Accounts = "accounts",
    /// Environments, their settings and variables.
    Environments = "environments",
    /// API keys.
    ApiKeys = "api_keys",
    /// Integrations.
    Integrations = "integrations",
    /// Connections, their credentials, tags and metadata.
    Connections = "connections",
    /// Connect sessions.
    ConnectSessions = "connect_sessions",
    /// OAuth attempts and their results.
    AuthAttempts = "auth_attempts",
    /// Outbox rows due.
    Deliveries = "deliveries",
    /// Logged operations.
    Operations = "operations",
    /// Provider definitions set while the server runs.
    Providers = "providers",
    /// Leases and results of credential refreshes.
    Refreshes = "refreshes",
}
