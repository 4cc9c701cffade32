//! Every auth mode through every misbehaviour, on one node and on two; `docs/refresh.md` is printed from the run.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures_util::future::{join, join_all};
use patchbay_connections::refresh::COOLDOWN;
use patchbay_sample::{
    Behaviours, EarlyRefresh, Expiry, Failure, Grant, OldToken, RefreshField, Rotation, Shape,
};
use patchbay_store::testing::TestDb;

use crate::modes::modes;
use crate::rig::{Act, Case, Cell, Expected, Mode, READERS, Rig, Spends};

const SERVED: Expected = ("old 0 | fresh 1 | fresh 1 | old 0", "");
const SIGNED: Expected = ("old 0 | fresh 0 | fresh 0 | old 0", "");
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
        nobody: None,
        about_expiry: false,
    }
}

/// A case that also exists where nobody is asked.
fn everywhere(case: Case, nobody: Expected) -> Case {
    Case {
        nobody: Some(nobody),
        ..case
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
    Case {
        about_expiry: true,
        ..case(id, words, Act::Switch(switch), SERVED)
    }
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
        everywhere(
            case(
                "plain",
                "rotates refresh tokens, and ends the grant when a used one comes back",
                Act::Switch(|_, _| ()),
                SERVED,
            ),
            SIGNED,
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
            about_expiry: true,
            ..case(
                "no-expiry",
                "does not say when the token ends",
                Act::Switch(|all, grant| all.of(grant).expiry = Expiry::Absent),
                BY_REJECTION,
            )
        },
        Case {
            secret: Some(SERVED),
            about_expiry: true,
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
        Case {
            refresh_token: Some(BY_REJECTION),
            secret: Some(BY_REJECTION),
            ..expiry(
                "token-ahead",
                "`expires_at` by a clock 20 minutes ahead",
                |all, grant| {
                    all.of(grant).expiry = Expiry::Absolute;
                    all.token_clock_skew_seconds = 20 * 60;
                },
            )
        },
        expiry(
            "token-behind",
            "`expires_at` by a clock 20 minutes behind",
            |all, grant| {
                all.of(grant).expiry = Expiry::Absolute;
                all.token_clock_skew_seconds = -20 * 60;
            },
        ),
        everywhere(
            case(
                "api-ahead",
                "its API's clock is 35 minutes ahead: tokens are rejected before their time",
                Act::Switch(|all, _| all.clock_skew_seconds = 35 * 60),
                ("401, fresh 1 | old 0 | fresh 1 | old 0", ""),
            ),
            ("401, fresh 0 | old 0 | fresh 0 | old 0", ""),
        ),
        everywhere(
            case(
                "api-behind",
                "its API's clock is 35 minutes behind",
                Act::Switch(|all, _| all.clock_skew_seconds = -35 * 60),
                SERVED,
            ),
            SIGNED,
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
                OPERATORS,
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
        everywhere(
            case(
                "killed-honoured",
                "we are killed between its answer and the save; it honours used refresh tokens",
                Act::Kill(|all, grant| {
                    with(all, grant, OldToken::Honour);
                }),
                SERVED,
            ),
            SIGNED,
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

/// Where a mode comes to something else; none: there is no such case.
const EXCEPTIONS: &[(&str, &str, Option<Expected>)] = &[
    // No unit can be declared for a path in an answer, and without an expiry a token is taken to last.
    ("TWO_STEP", "millis", None),
    ("TWO_STEP", "no-expiry", Some(BY_REJECTION)),
    ("TWO_STEP", "other-name", Some(BY_REJECTION)),
    (REFRESHED, "millis", None),
    // What was typed buys a token when the refresh token does not.
    (
        REFRESHED,
        "html-403",
        Some(("old 0 | fresh 2 | fresh 2 | old 0", "")),
    ),
    (REFRESHED, "hiccup", Some(BY_LOGIN)),
    (
        REFRESHED,
        "refusing",
        Some(("old 0 | fresh 2 | fresh 2 | old 0", "")),
    ),
    (
        REFRESHED,
        "wrong-secret",
        Some((
            "old 0 | old 2 | refused 2 | fresh 1",
            "refresh_token_external_error, ok",
        )),
    ),
    (REFRESHED, "revoked", Some(BY_LOGIN)),
    (REFRESHED, "lost-refused", Some(LOGIN_AFTER_LOSS)),
    (REFRESHED, "lost-revoked", Some(LOGIN_AFTER_LOSS)),
    (REFRESHED, "broken-revoked", Some(LOGIN_AFTER_LOSS)),
    (REFRESHED, "killed-refused", Some(LOGIN_AFTER_KILL)),
    (REFRESHED, "killed-revoked", Some(LOGIN_AFTER_KILL)),
    // A session is renewed long before the API would end it.
    ("BILL", "api-ahead", Some(SERVED)),
    // Only `expires_at` counts; keys that name no end are taken to last an hour.
    ("AWS_SIGV4", "undeclared", Some(SERVED)),
    // Key and service are the operator's.
    ("AWS_SIGV4", "wrong-secret", Some(OPERATORS)),
    ("APP", "wrong-secret", Some(OPERATORS)),
    ("CUSTOM", "wrong-secret", Some(OPERATORS)),
    ("APP", "no-expiry", Some(BY_REJECTION)),
    ("APP", "other-name", Some(BY_REJECTION)),
    ("CUSTOM", "no-expiry", Some(BY_REJECTION)),
    ("CUSTOM", "other-name", Some(BY_REJECTION)),
];
const REFRESHED: &str = "TWO_STEP with a refresh token";
const BY_LOGIN: Expected = ("old 0 | fresh 2 | fresh 1 | old 0", "");
const LOGIN_AFTER_LOSS: Expected = ("old 0 | old 1 | fresh 2 | old 0", "");
const LOGIN_AFTER_KILL: Expected = ("old 0 | fresh 1 | fresh 2 | old 0", "");
const OPERATORS: Expected = ("old 0 | old 1 | ours 1 | fresh 1", "refresh_internal_error, ok");

/// What should come of a case under a mode; none if it does not exist.
fn expected(mode: &Mode, case: &Case) -> Option<Expected> {
    let exception = EXCEPTIONS
        .iter()
        .find(|(name, id, _)| (*name, *id) == (mode.name, case.id));
    if let Some((_, _, expected)) = exception {
        return *expected;
    }
    // Their answers name an end in one member, or none.
    let names_life = matches!(case.id, "text" | "millis" | "undeclared");
    match mode.name {
        "BILL" if case.about_expiry => return None,
        "APP" | "CUSTOM" if names_life => return None,
        _ => {}
    }
    match mode.spends {
        Spends::RefreshToken => case.refresh_token,
        Spends::Secret => case.secret,
        Spends::Nobody => case.nobody,
    }
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
        page.add(mode, &cells);
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
        let Some((readings, told)) = expected(mode, case) else {
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
    tables: Vec<Table>,
    cells: usize,
}

/// What came of the cases, and of which modes.
struct Table {
    modes: Vec<&'static str>,
    spends: Spends,
    rows: String,
    lost: Vec<String>,
}

impl Page {
    fn add(&mut self, mode: &Mode, cells: &[(&Case, Cell)]) {
        self.cells += 2 * cells.len();
        let mut table = Table {
            modes: vec![mode.name],
            spends: mode.spends,
            rows: String::new(),
            lost: Vec::new(),
        };
        for (case, cell) in cells {
            table.add(case, cell);
        }
        match self
            .tables
            .iter_mut()
            .find(|known| known.spends == table.spends && known.rows == table.rows)
        {
            Some(known) => known.modes.push(mode.name),
            None => self.tables.push(table),
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
        let mut lost = String::new();
        let mut tables = String::new();
        for table in &self.tables {
            let modes = table.modes.join(", ");
            for line in &table.lost {
                writeln!(lost, "- {modes}: {line}.").unwrap();
            }
            write!(
                tables,
                "\n## {modes}\n\n{}\n\n| {} | half way | near the end | ended | afterwards | webhooks | timeline |\n\
                 |---|---|---|---|---|---|---|\n{}",
                table.words(),
                if table.spends == Spends::Nobody { "What happens" } else { "The provider …" },
                table.rows
            )
            .unwrap();
        }
        format!(
            "{HEAD}\n## The connections that are lost\n\nOf {} cells these end with a connection that only its end user \
             can bring back, all of them the provider's or the end user's doing:\n\n{lost}{tables}",
            self.cells,
        )
        .replace("READERS", &READERS.to_string())
    }
}

impl Table {
    fn words(&self) -> &'static str {
        match self.spends {
            Spends::RefreshToken if self.modes[0].starts_with("TWO_STEP") => {
                "A renewal spends a refresh token; if it is refused, what was typed buys another."
            }
            Spends::RefreshToken => "A renewal spends a refresh token.",
            Spends::Secret => "A renewal shows a secret that lasts.",
            Spends::Nobody => "A token is signed here, and nobody is asked.",
        }
    }

    fn add(&mut self, case: &Case, cell: &Cell) {
        let readings: Vec<String> = cell
            .readings
            .iter()
            .map(|(reading, asked)| format!("{reading} ({asked})"))
            .collect();
        let told: Vec<String> = cell.told.iter().map(|kind| format!("`{kind}`")).collect();
        let words = match (self.spends, case.id) {
            (Spends::Secret, "plain") => "answers as it should",
            (Spends::Nobody, "plain") => "the API takes what is signed",
            (Spends::Nobody, "killed-honoured") => "we are killed before the new one is saved",
            // What is said after that concerns refresh tokens.
            (Spends::Secret | Spends::Nobody, _) => case.words.split("; ").next().unwrap_or(case.words),
            (Spends::RefreshToken, _) => case.words,
        };
        writeln!(
            self.rows,
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
            self.lost.push(format!("{words}: {by}"));
        }
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

Each row is one misbehaviour, and one connection whose token lives for an hour (a session of BILL is taken to live for 35
minutes). READERS callers at once read it four times: half way through its life, ten minutes before its end, an hour later, and once the provider behaves again and the
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
