//! Every auth mode through every misbehaviour, on one node and on two; `docs/refresh.md` is printed from the run.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures_util::future::{join, join_all};
use patchbay_connections::integrations::AppCredentials;
use patchbay_connections::refresh::COOLDOWN;
use patchbay_sample::{
    Behaviours, EarlyRefresh, Expiry, Failure, Grant, OldToken, RefreshField, Rotation, Shape,
};
use patchbay_store::testing::TestDb;
use patchbay_types::{AuthMode, Credentials};
use serde_json::json;

use crate::rig::{Act, Case, Cell, Expected, Mode, READERS, Rig, Spends};

fn modes() -> Vec<Mode> {
    vec![
        Mode {
            name: "OAUTH2",
            grant: Grant::RefreshToken,
            spends: Spends::RefreshToken,
            definition: "auth_mode: OAUTH2\n    authorization_url: BASE/oauth/authorize\n    token_url: BASE/oauth/token\n",
            app: |client| {
                Some(AppCredentials::OAuth {
                    mode: AuthMode::OAuth2,
                    client_id: Some(client.to_owned()),
                    client_secret: Some("planted-secret-of-a-client".into()),
                    scopes: None,
                    webhook_secret: None,
                })
            },
            connect: |sample, client, _| {
                let issued = sample.issue_to(client, "read");
                json!({
                    "type": "OAUTH2", "access_token": issued["access_token"],
                    "refresh_token": issued["refresh_token"], "raw": issued,
                })
            },
            token: |credentials| match credentials {
                Credentials::OAuth2(credentials) => credentials.access_token.expose().to_owned(),
                other => panic!("not OAuth 2: {other:?}"),
            },
        },
        Mode {
            name: "OAUTH2_CC",
            grant: Grant::ClientCredentials,
            spends: Spends::Secret,
            definition: "auth_mode: OAUTH2_CC\n    token_url: BASE/oauth/token\n    token_params:\n        grant_type: client_credentials\n",
            app: |_| None,
            connect: |sample, client, secret| {
                let issued = sample.issue_client_token(client);
                json!({
                    "type": "OAUTH2_CC", "token": issued["access_token"], "client_id": client,
                    "client_secret": secret, "raw": issued,
                })
            },
            token: |credentials| match credentials {
                Credentials::OAuth2Cc(credentials) => credentials.token.expose().to_owned(),
                other => panic!("not client credentials: {other:?}"),
            },
        },
    ]
}

const SERVED: Expected = ("old 0 | fresh 1 | fresh 1 | old 0", "");
const BY_REJECTION: Expected = ("old 0 | fresh 1 | 401, fresh 1 | old 0", "");
const OUTAGE: Expected = (
    "old 0 | old 1 | down 1 | fresh 1",
    "refresh_provider_unavailable, ok",
);
const HICCUP: Expected = ("old 0 | old 1 | fresh 1 | old 0", "");
const REFUSED_ONCE: Expected = (
    "old 0 | old 1 | fresh 1 | old 0",
    "refresh_token_external_error, ok",
);
const REFUSED: Expected = (
    "old 0 | old 1 | refused 1 | fresh 1",
    "refresh_token_external_error, ok",
);
const CUT_OFF: Expected = (
    "old 0 | old 1 | interrupted 1 | interrupted 1",
    "refresh_interrupted",
);
const KILLED: Expected = (
    "old 0 | fresh 1 | interrupted 1 | interrupted 1",
    "refresh_interrupted",
);

fn case(id: &'static str, words: &'static str, act: Act, both: Expected) -> Case {
    Case {
        id,
        words,
        act,
        definition: "",
        pause: COOLDOWN,
        refresh_token: Some(both),
        secret: Some(both),
    }
}

/// A case that only a refresh token has.
fn of_refresh_tokens(id: &'static str, words: &'static str, act: Act, expected: Expected) -> Case {
    Case {
        secret: None,
        ..case(id, words, act, expected)
    }
}

fn expiry(id: &'static str, words: &'static str, switch: fn(&mut Behaviours, Grant)) -> Case {
    case(id, words, Act::Switch(switch), SERVED)
}

fn always(all: &mut Behaviours, grant: Grant, failure: Failure) {
    all.of(grant).failure = Some(failure);
}

fn once(all: &mut Behaviours, grant: Grant, failure: Failure) {
    all.of(grant).next_failures = vec![failure];
}

fn cases() -> Vec<Case> {
    let mut cases = well_behaved();
    cases.extend(clocks());
    cases.extend(outages());
    cases.extend(refusals());
    cases.extend(cut_off());
    cases
}

fn well_behaved() -> Vec<Case> {
    vec![
        case(
            "plain",
            "rotates refresh tokens, and ends the grant when a used one comes back",
            Act::Switch(|_, _| ()),
            SERVED,
        ),
        of_refresh_tokens(
            "keep",
            "never replaces the refresh token",
            Act::Switch(|all, grant| all.of(grant).rotation = Rotation::Keep),
            SERVED,
        ),
        of_refresh_tokens(
            "omit",
            "leaves the refresh token out of the answer",
            Act::Switch(|all, grant| all.of(grant).refresh_field = RefreshField::Omitted),
            SERVED,
        ),
        of_refresh_tokens(
            "early",
            "gives the same access token until it has ended",
            Act::Switch(|all, grant| all.of(grant).early = EarlyRefresh::SameTokens),
            ("old 0 | old 1 | fresh 1 | old 0", ""),
        ),
        case(
            "slow",
            "takes ten seconds",
            Act::Slow(Duration::from_secs(10)),
            SERVED,
        ),
    ]
}

fn clocks() -> Vec<Case> {
    vec![
        Case {
            // Client credentials without an expiry are taken to last 55 minutes.
            secret: Some(SERVED),
            ..case(
                "no-expiry",
                "does not say when the token ends",
                Act::Switch(|all, grant| all.of(grant).expiry = Expiry::Absent),
                BY_REJECTION,
            )
        },
        Case {
            secret: Some(SERVED),
            ..case(
                "other-name",
                "says when it ends under a name nobody knows (`expires_on`)",
                Act::Switch(|all, grant| all.of(grant).expiry = Expiry::OtherName),
                BY_REJECTION,
            )
        },
        expiry("text", "`expires_in` as text", |all, grant| {
            all.of(grant).expiry = Expiry::Text;
        }),
        Case {
            definition: "    expires_in_unit: milliseconds\n",
            ..expiry(
                "millis",
                "`expires_in` in milliseconds, as its definition says",
                |all, grant| {
                    all.of(grant).expiry = Expiry::Milliseconds;
                },
            )
        },
        Case {
            refresh_token: Some(BY_REJECTION),
            secret: Some(BY_REJECTION),
            ..expiry(
                "undeclared",
                "`expires_in` in milliseconds, and its definition does not say so",
                |all, grant| {
                    all.of(grant).expiry = Expiry::Milliseconds;
                },
            )
        },
        expiry("epoch", "`expires_at` in seconds since 1970", |all, grant| {
            all.of(grant).expiry = Expiry::Absolute;
        }),
        expiry(
            "epoch-millis",
            "`expires_at` in milliseconds since 1970",
            |all, grant| {
                all.of(grant).expiry = Expiry::AbsoluteMilliseconds;
            },
        ),
        expiry("iso", "`expires_at` as an ISO 8601 date", |all, grant| {
            all.of(grant).expiry = Expiry::Iso;
        }),
        expiry(
            "relative",
            "`expires_at` as days, hours and minutes from now",
            |all, grant| {
                all.of(grant).expiry = Expiry::Relative;
            },
        ),
        case(
            "token-ahead",
            "`expires_at` by a clock 20 minutes ahead",
            Act::Switch(|all, grant| {
                all.of(grant).expiry = Expiry::Absolute;
                all.token_clock_skew_seconds = 20 * 60;
            }),
            BY_REJECTION,
        ),
        case(
            "token-behind",
            "`expires_at` by a clock 20 minutes behind",
            Act::Switch(|all, grant| {
                all.of(grant).expiry = Expiry::Absolute;
                all.token_clock_skew_seconds = -20 * 60;
            }),
            SERVED,
        ),
        case(
            "api-ahead",
            "its API's clock is 35 minutes ahead: tokens are rejected before their time",
            Act::Switch(|all, _| all.clock_skew_seconds = 35 * 60),
            ("401, fresh 1 | old 0 | fresh 1 | old 0", ""),
        ),
        case(
            "api-behind",
            "its API's clock is 35 minutes behind",
            Act::Switch(|all, _| all.clock_skew_seconds = -35 * 60),
            SERVED,
        ),
    ]
}

fn outages() -> Vec<Case> {
    vec![
        case(
            "500",
            "answers 500",
            Act::Switch(|all, grant| {
                always(
                    all,
                    grant,
                    Failure::Status {
                        status: 500,
                        retry_after: None,
                    },
                );
            }),
            OUTAGE,
        ),
        Case {
            pause: Duration::from_mins(2),
            ..case(
                "429",
                "answers 429 with `Retry-After: 120`, which is kept",
                Act::Switch(|all, grant| {
                    always(
                        all,
                        grant,
                        Failure::Status {
                            status: 429,
                            retry_after: Some(120),
                        },
                    );
                }),
                OUTAGE,
            )
        },
        case(
            "html-503",
            "answers 503 with a page in HTML",
            Act::Switch(|all, grant| always(all, grant, Failure::Html { status: 503 })),
            OUTAGE,
        ),
        case(
            "html-403",
            "a gateway before it answers 403 with a page in HTML",
            Act::Switch(|all, grant| always(all, grant, Failure::Html { status: 403 })),
            OUTAGE,
        ),
        case(
            "html-200",
            "answers 200 with a page in HTML",
            Act::Switch(|all, grant| always(all, grant, Failure::Html { status: 200 })),
            OUTAGE,
        ),
        case(
            "garbage",
            "answers 200 with a body that is no JSON",
            Act::Switch(|all, grant| always(all, grant, Failure::Garbage)),
            OUTAGE,
        ),
        case(
            "cut",
            "closes the connection before it has done anything",
            Act::Switch(|all, grant| always(all, grant, Failure::Cut)),
            OUTAGE,
        ),
        case(
            "hang",
            "never answers",
            Act::Hang(|all, grant| always(all, grant, Failure::Hang)),
            OUTAGE,
        ),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        case(
            "hiccup",
            "answers `invalid_grant` once, then works",
            Act::Switch(|all, grant| once(all, grant, Failure::InvalidGrant)),
            REFUSED_ONCE,
        ),
        case(
            "refusing",
            "answers `invalid_grant` for an hour, then works",
            Act::Switch(|all, grant| always(all, grant, Failure::InvalidGrant)),
            REFUSED,
        ),
        Case {
            // A client of the end user's own is theirs to mend.
            secret: Some(REFUSED),
            ..case(
                "wrong-secret",
                "knows another secret of the client, until that is put right",
                Act::WrongSecret,
                ("old 0 | old 1 | ours 1 | fresh 1", "refresh_internal_error, ok"),
            )
        },
        of_refresh_tokens(
            "revoked",
            "the end user revoked the grant there",
            Act::Revoke,
            (
                "old 0 | useless 1 | refused 1 | refused 1",
                "refresh_token_external_error",
            ),
        ),
    ]
}

fn cut_off() -> Vec<Case> {
    fn with(all: &mut Behaviours, grant: Grant, old: OldToken) -> &mut Behaviours {
        all.of(grant).old_token = old;
        all
    }
    vec![
        case(
            "lost-honoured",
            "acts, and its answer is lost on the way; it honours used refresh tokens",
            Act::Switch(|all, grant| once(with(all, grant, OldToken::Honour), grant, Failure::LostAnswer)),
            HICCUP,
        ),
        case(
            "half-honoured",
            "acts, and half its answer arrives; it honours used refresh tokens",
            Act::Switch(|all, grant| once(with(all, grant, OldToken::Honour), grant, Failure::HalfAnswer)),
            HICCUP,
        ),
        of_refresh_tokens(
            "lost-refused",
            "acts, and its answer is lost on the way; it refuses used refresh tokens",
            Act::Switch(|all, grant| once(with(all, grant, OldToken::Refuse), grant, Failure::LostAnswer)),
            CUT_OFF,
        ),
        of_refresh_tokens(
            "lost-revoked",
            "acts, and its answer is lost on the way; it ends the grant when a used refresh token comes back",
            Act::Switch(|all, grant| once(all, grant, Failure::LostAnswer)),
            CUT_OFF,
        ),
        case(
            "broken-honoured",
            "acts, and writes its answer as broken JSON; it honours used refresh tokens",
            Act::Switch(|all, grant| {
                with(all, grant, OldToken::Honour).of(grant).shape = Shape::MalformedJson;
            }),
            OUTAGE,
        ),
        of_refresh_tokens(
            "broken-revoked",
            "acts, and writes its answer as broken JSON; it ends the grant when a used refresh token comes back",
            Act::Switch(|all, grant| all.of(grant).shape = Shape::MalformedJson),
            CUT_OFF,
        ),
        case(
            "killed-honoured",
            "we are killed between its answer and the save; it honours used refresh tokens",
            Act::Kill(|all, grant| {
                with(all, grant, OldToken::Honour);
            }),
            SERVED,
        ),
        of_refresh_tokens(
            "killed-minute",
            "we are killed between its answer and the save; it honours a used refresh token for a minute",
            Act::Kill(|all, grant| all.of(grant).honour_old_for_seconds = 60),
            SERVED,
        ),
        of_refresh_tokens(
            "killed-refused",
            "we are killed between its answer and the save; it refuses used refresh tokens",
            Act::Kill(|all, grant| {
                with(all, grant, OldToken::Refuse);
            }),
            KILLED,
        ),
        of_refresh_tokens(
            "killed-revoked",
            "we are killed between its answer and the save; it ends the grant when a used refresh token comes back",
            Act::Kill(|_, _| ()),
            KILLED,
        ),
    ]
}

/// The connections that end up lost, and who lost them. All others work again by themselves.
const LOST: &[(&str, &str)] = &[
    ("revoked", "the end user wanted it so"),
    (
        "lost-refused",
        "the answer was lost on the way, and the provider honours the old token no more",
    ),
    (
        "lost-revoked",
        "the answer was lost on the way, and the provider honours the old token no more",
    ),
    (
        "broken-revoked",
        "the provider broke its own answer, and honours the old token no more",
    ),
    (
        "killed-refused",
        "**the one nobody can save**: the only copy of the new token was in the killed process",
    ),
    (
        "killed-revoked",
        "**the one nobody can save**: the only copy of the new token was in the killed process",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_through_every_misbehaviour_on_one_node_and_on_two() {
    let (modes, cases) = (modes(), cases());
    let mut page = Page::default();
    let mut wrong = Vec::new();
    for (mode, (cells, faults)) in modes
        .iter()
        .zip(join_all(modes.iter().map(|mode| Box::pin(run(mode, &cases)))).await)
    {
        page.begin(mode);
        for (case, cell) in cells {
            page.add(mode, case, &cell);
        }
        wrong.extend(faults);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    page.compare();
}

/// One mode through all cases that exist for it: what came of each, and what should not have.
async fn run<'a>(mode: &Mode, cases: &'a [Case]) -> (Vec<(&'a Case, Cell)>, Vec<String>) {
    let one = Rig::new(TestDb::sqlite().await, 1, mode, cases).await;
    let two = Rig::new(TestDb::postgres().await, 2, mode, cases).await;
    let (mut cells, mut wrong) = (Vec::new(), Vec::new());
    for case in cases {
        let expected = match mode.spends {
            Spends::RefreshToken => case.refresh_token,
            Spends::Secret => case.secret,
        };
        let Some((readings, told)) = expected else {
            continue;
        };
        let (on_one, on_two) = join(Box::pin(one.run(mode, case)), Box::pin(two.run(mode, case))).await;
        for (nodes, cell) in [("one node", &on_one), ("two nodes", &on_two)] {
            let found = cell.summary();
            if found != (readings.to_owned(), told.to_owned()) {
                wrong.push(format!("{} {} on {nodes}: {found:?}", mode.name, case.id));
            }
            let known = LOST.iter().any(|(id, _)| *id == case.id);
            if cell.lost && !(known && mode.spends == Spends::RefreshToken) {
                wrong.push(format!(
                    "{} {} on {nodes}: lost, and not by the provider",
                    mode.name, case.id
                ));
            }
        }
        if on_one != on_two {
            wrong.push(format!(
                "{} {}: {on_one:?} on one node, {on_two:?} on two",
                mode.name, case.id
            ));
        }
        cells.push((case, on_one));
    }
    (cells, wrong)
}

/// `docs/refresh.md`.
#[derive(Default)]
struct Page {
    tables: String,
    lost: String,
    cells: usize,
}

impl Page {
    fn begin(&mut self, mode: &Mode) {
        let spends = match mode.spends {
            Spends::RefreshToken => "A renewal spends a refresh token.",
            Spends::Secret => "A renewal shows a secret that lasts.",
        };
        write!(
            self.tables,
            "\n## {}\n\n{spends}\n\n| The provider … | half way | near the end | ended | afterwards | webhooks | timeline |\n\
             |---|---|---|---|---|---|---|\n",
            mode.name
        )
        .unwrap();
    }

    fn add(&mut self, mode: &Mode, case: &Case, cell: &Cell) {
        self.cells += 2;
        let readings: Vec<String> = cell
            .readings
            .iter()
            .map(|(reading, asked)| format!("{reading} ({asked})"))
            .collect();
        let told: Vec<String> = cell.told.iter().map(|kind| format!("`{kind}`")).collect();
        let words = match mode.spends {
            Spends::Secret if case.id == "plain" => "answers as it should",
            // What is said after that concerns refresh tokens.
            Spends::Secret => case.words.split("; ").next().unwrap_or(case.words),
            Spends::RefreshToken => case.words,
        };
        writeln!(
            self.tables,
            "| {words} | {} | {} | {} |",
            readings.join(" | "),
            if told.is_empty() {
                "none".to_owned()
            } else {
                told.join(", ")
            },
            cell.timeline.join("; "),
        )
        .unwrap();
        if cell.lost {
            let by = LOST
                .iter()
                .find(|(id, _)| *id == case.id)
                .map_or("nobody knows", |(_, by)| by);
            writeln!(self.lost, "- {}: {words}: {by}.", mode.name).unwrap();
        }
    }

    #[track_caller]
    fn compare(&self) {
        let text = self.text();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refresh.md");
        #[expect(
            clippy::disallowed_methods,
            reason = "a switch of the test run, not of the product"
        )]
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "docs/refresh.md does not say what was seen: run `UPDATE_GENERATED=1 cargo test -p patchbay-connections \
             --test refresh every_mode`"
        );
    }

    fn text(&self) -> String {
        format!(
            "{HEAD}\n## The connections that are lost\n\nOf {} cells these end with a connection that only its end user \
             can bring back, all of them the provider's or the end user's doing:\n\n{}{}",
            self.cells,
            self.lost,
            self.tables
        )
        .replace("READERS", &READERS.to_string())
    }
}

const HEAD: &str = "# How connections stay alive

<!-- Printed by `UPDATE_GENERATED=1 cargo test -p patchbay-connections --test refresh every_mode`; a test keeps it fresh. -->

Access tokens end, and providers differ in how they renew them. This page says what Patchbay does about it, and shows
what came of leading connections through every way a provider is known to misbehave. The tables are printed from the
run of a test.

## What Patchbay does

- Credentials are renewed when somebody needs them and they end within 15 minutes, or within the
  `token_expiration_buffer` of the provider's definition. While the old token is good, whatever goes wrong is recorded
  and the caller gets the old token.
- However many callers on however many nodes need a renewal, the provider is asked once.
- When an API answers 401 to a token that should be good, it is renewed once and the call is made once more.
- Credentials that nobody used for a day are looked at in the background, a few at a time, and renewed if they near
  their end. A definition with `refresh_every_hours: N` has them renewed at least that often.
- After a failure nobody asks again for 30 seconds, or for as long as the provider's `Retry-After` says, up to an hour.
  `force_refresh=true` is above that.
- Only the provider's refusals count against a connection. Refused on four days (UTC), it is given up until the end user
  connects again or somebody forces a refresh that works.
- The product is told by an `auth` webhook when a connection begins to fail and when it works again, and, where
  `webhooks.refresh_error_reminder_hours` says so, again every so many hours in between.
- Every renewal is in the connection's timeline, with its reason, its outcome and who is to blame: the overview page and
  `patchbay connections show` print the last 50. They are removed with the connection.

## How to read the tables

Each row is one misbehaviour, and one connection whose token lives for an hour. READERS callers at once read it four
times: half way through its life, ten minutes before its end, an hour later, and once the provider behaves again and the
pause after a failure is over. Each caller then shows the token to the API. In parentheses: how often the provider was
asked for tokens, all callers together. Every row was run on one node with SQLite and on two nodes with Postgres, and
came to the same.

| Word | Meaning |
|---|---|
| fresh | a new token, which the API takes |
| 401, fresh | the API rejected the token handed out; a forced renewal brought one that it takes |
| old | the token of before, which the API still takes |
| useless | the token handed out is rejected by the API, and there is no better one |
| down | 502 `invalid_credentials`, cause `provider_down`: try again later |
| refused | 400 `invalid_credentials`, cause `provider_refused`: the end user must connect again |
| ours | 500 `invalid_credentials`, cause `ours`: the operator must mend something |
| interrupted | 424 `invalid_credentials`, cause `refresh_interrupted`: the answer was lost, and the old token is no longer honoured |

Webhooks are named by their `error.type`; `ok` is the one that says it works again. The timeline lists reason and
outcome of each renewal.
";
