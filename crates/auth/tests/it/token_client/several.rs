//! Providers that take more than one request: a second one with the first answer, or extra tokens.

use patchbay_auth::oauth2::token::{
    ExchangeError, Second, exchange_extras, exchange_follow_up, keep_exchange_extra, read_exchange,
};
use patchbay_auth::renewal::{self, is_due};
use serde_json::{Value, json};

use super::{BACK, Case, IN_AN_HOUR, NOW_MS, form, owned, text, tokens};
use crate::support::{ambient, answer};

#[test]
fn bullhorn_logs_in_with_what_the_first_answer_brings() {
    let case = Case::of("bullhorn");
    let base =
        "https://auth-west.bullhornstaffing.com/oauth/token?client_id=the-client&client_secret=the-secret";
    case.exchanges_with(&format!(
        "POST {base}&grant_type=authorization_code&code=the-code&redirect_uri={BACK}\n\n"
    ))
    .refreshes_with(&format!(
        "POST {base}&grant_type=refresh_token&refresh_token=old-refresh\n\n"
    ));

    let first = answer(
        200,
        json!({"access_token": "opens", "refresh_token": "next", "expires_in": 600}),
    );
    let login = "POST https://rest-west.bullhornstaffing.com/rest-services/login?version=*&access_token=opens&ttl=10080\n\n";
    let second = case.exchange(|input| exchange_follow_up(input, &first, &ambient()).unwrap());
    assert_eq!(text(&second.unwrap()), login);
    let again = case.renew(|input| renewal::follow_up(input, &first, &ambient()).unwrap());
    assert_eq!(text(&again.unwrap()), login);
    // A refusal is not followed up.
    let refused = answer(400, json!({"error": "invalid_grant"}));
    assert!(
        case.exchange(|input| exchange_follow_up(input, &refused, &ambient()).unwrap())
            .is_none()
    );

    let told = answer(
        200,
        json!({"BhRestToken": "session", "restUrl": "https://rest9.bullhornstaffing.com/rest-services/x/"}),
    );
    let exchanged = case
        .exchange(|input| read_exchange(input, &first, Second::Answered(&told), ambient().now()))
        .unwrap();
    let week = Some("2026-01-09T03:04:05.678Z");
    assert_eq!(
        tokens(&exchanged.credentials),
        owned(("session", Some("next"), week))
    );
    assert_eq!(
        exchanged.token_metadata["restUrl"],
        "https://rest9.bullhornstaffing.com/rest-services/x/"
    );

    // Without the login there is no connection.
    let down = answer(500, json!({}));
    let error = case.exchange(|input| read_exchange(input, &first, Second::Answered(&down), ambient().now()));
    assert!(matches!(error, Err(ExchangeError::Rejected(_))), "{error:?}");
    // But a refresh keeps the refresh token that the first answer brought, and is due again.
    let kept = case
        .renew(|input| renewal::read(input, &first, Second::Answered(&down), ambient().now()))
        .unwrap();
    let now = Some("2026-01-02T03:04:05.678Z");
    assert_eq!(
        tokens(&kept.credentials),
        owned(("old-access", Some("next"), now))
    );
    assert!(is_due(
        &case.provider.definition,
        &kept.credentials,
        &case.config,
        false,
        ambient().now()
    ));
}

#[test]
fn instagram_and_threads_exchange_the_short_token_at_once() {
    for (name, token_url, long, grant) in [
        (
            "instagram",
            "https://api.instagram.com/oauth/access_token",
            "https://graph.instagram.com",
            "ig",
        ),
        (
            "threads",
            "https://graph.threads.net/oauth/access_token",
            "https://graph.threads.net",
            "th",
        ),
    ] {
        let case = Case::of(name);
        case.exchanges_with(&form(
            token_url,
            &[],
            &format!(
                "grant_type=authorization_code&code=the-code&redirect_uri={BACK}&code_verifier=the-verifier\
             &client_id=the-client&client_secret=the-secret"
            ),
        ))
        .refreshes_with(&format!(
            "GET {long}/refresh_access_token?grant_type={grant}_refresh_token&access_token=old-access\n\n"
        ));
        let first = answer(200, json!({"access_token": "short", "user_id": 5}));
        let second = case
            .exchange(|input| exchange_follow_up(input, &first, &ambient()).unwrap())
            .unwrap();
        assert_eq!(
            text(&second),
            format!(
                "GET {long}/access_token?grant_type={grant}_exchange_token&client_secret=the-secret&access_token=short\n\n"
            )
        );
        let told = answer(
            200,
            json!({"access_token": "long", "token_type": "bearer", "expires_in": 5_184_000}),
        );
        let exchanged = case
            .exchange(|input| read_exchange(input, &first, Second::Answered(&told), ambient().now()))
            .unwrap();
        assert_eq!(
            tokens(&exchanged.credentials),
            owned(("long", None, Some("2026-03-03T03:04:05.678Z")))
        );
        // Refused: the short one is kept, as long as it lives.
        let refused = answer(400, json!({"error": {"code": 1}}));
        let lost = patchbay_outbound::Error::TooManyRedirects { limit: 1 };
        for second in [Second::Answered(&refused), Second::Unanswered(&lost)] {
            let exchanged = case
                .exchange(|input| read_exchange(input, &first, second, ambient().now()))
                .unwrap();
            assert_eq!(tokens(&exchanged.credentials), owned(("short", None, IN_AN_HOUR)));
            assert!(!is_due(
                &case.provider.definition,
                &exchanged.credentials,
                &case.config,
                false,
                ambient().now()
            ));
        }
    }
}

#[test]
fn teams_bot_has_a_second_token() {
    let case = Case::of("microsoft-teams-bot").config(json!({"tenantId": "t1", "botHostTenantId": "t2"}));
    let mut exchanged = case
        .read(&answer(200, json!({"access_token": "a", "refresh_token": "r"})))
        .unwrap();
    let ask = "POST https://login.microsoftonline.com/t2/oauth2/v2.0/token\n\
               content-type: application/x-www-form-urlencoded\n\n\
               grant_type=client_credentials&client_id=the-client&client_secret=the-secret\
               &scope=https%3A%2F%2Fapi.botframework.com%2F.default";
    let told = answer(200, json!({"access_token": "bot", "expires_in": 3600}));
    case.exchange(|input| {
        let extras = exchange_extras(input, &exchanged, &ambient());
        assert_eq!(
            extras.iter().map(|(_, call)| text(call)).collect::<Vec<_>>(),
            [ask]
        );
        let extra = extras[0].0;
        keep_exchange_extra(extra, &told, ambient().now(), &mut exchanged);
    });
    let kept = json!({"access_token": "bot", "expires_in": 3600, "expires_at": NOW_MS + 3_600_000});
    assert_eq!(exchanged.token_metadata["botFrameworkAccessToken"], kept);

    // It ends before the main one: both are renewed, and a refusal is not asked again at once.
    let near = json!({"access_token": "bot", "expires_at": NOW_MS + 60_000});
    let stored = json!({"type": "OAUTH2", "access_token": "a", "refresh_token": "r",
        "expires_at": "2026-01-02T09:00:00.000Z", "raw": {}});
    let mut due = Case::of("microsoft-teams-bot")
        .config(json!({"tenantId": "t1", "botHostTenantId": "t2", "botFrameworkAccessToken": near}))
        .stored(stored);
    assert!(due.is_due(false));
    let mut renewal = due
        .read_refresh(&answer(200, json!({"access_token": "b", "expires_in": 3600})))
        .unwrap();
    due.renew(|input| {
        let extras = renewal::extras(input, &renewal, &ambient());
        assert_eq!(
            extras.iter().map(|(_, call)| text(call)).collect::<Vec<_>>(),
            [ask]
        );
        renewal::keep_extra(input, extras[0].0, None, ambient().now(), &mut renewal);
    });
    due.config.extend(renewal.config_updates);
    assert_eq!(due.config["botFrameworkAccessToken"]["access_token"], "bot");
    assert!(!due.is_due(false), "left alone for five minutes");

    let without = Case::of("microsoft-teams-bot").config(json!({"tenantId": "t1"}));
    let exchanged = without.read(&answer(200, json!({"access_token": "a"}))).unwrap();
    without.exchange(|input| assert!(exchange_extras(input, &exchanged, &ambient()).is_empty()));
}

/// A JWT with these claims, signed by nobody.
fn jwt(claims: &Value) -> String {
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}.x", part(&json!({"alg": "none"})), part(claims))
}

#[test]
fn sharepoint_gets_a_token_of_its_own_audience() {
    for name in ["one-drive", "sharepoint-online"] {
        let ask = |refresh: &str| {
            format!(
                "POST https://login.microsoftonline.com/t9/oauth2/v2.0/token\n\
                 content-type: application/x-www-form-urlencoded\n\n\
                 grant_type=refresh_token&client_id=the-client&client_secret=the-secret&refresh_token={refresh}\
                 &scope=https%3A%2F%2Ft9.sharepoint.com%2FSites.Read.All"
            )
        };
        let told =
            json!({"access_token": jwt(&json!({"tid": "t9"})), "refresh_token": "r", "expires_in": 3600});
        let case = Case::of(name);
        let exchanged = case.read(&answer(200, told.clone())).unwrap();
        case.exchange(|input| {
            let extras = exchange_extras(input, &exchanged, &ambient());
            assert_eq!(
                extras.iter().map(|(_, call)| text(call)).collect::<Vec<_>>(),
                [ask("r")]
            );
        });
        let kept = json!({"sharepointAccessToken": {"access_token": "s", "refresh_token": "own"}});
        let later = Case::of(name).config(kept);
        let mut renewal = later.read_refresh(&answer(200, told)).unwrap();
        let fresh = answer(
            200,
            json!({"access_token": "s2", "refresh_token": "own2", "expires_in": 60}),
        );
        later.renew(|input| {
            let extras = renewal::extras(input, &renewal, &ambient());
            assert_eq!(
                extras.iter().map(|(_, call)| text(call)).collect::<Vec<_>>(),
                [ask("own")]
            );
            renewal::keep_extra(input, extras[0].0, Some(&fresh), ambient().now(), &mut renewal);
        });
        assert_eq!(
            renewal.config_updates["sharepointAccessToken"]["refresh_token"],
            "own2"
        );
        // A personal account's token has no claims.
        let personal = case
            .read(&answer(
                200,
                json!({"access_token": "opaque", "refresh_token": "r"}),
            ))
            .unwrap();
        case.exchange(|input| assert!(exchange_extras(input, &personal, &ambient()).is_empty()));
    }
}

#[test]
fn slack_renews_the_users_token_with_the_bots() {
    let raw = json!({"ok": true, "authed_user": {"id": "U1", "access_token": "u", "refresh_token": "user-refresh", "expires_in": 43200}});
    let case = Case::of("slack").stored(json!({"type": "OAUTH2", "access_token": "old-access",
        "refresh_token": "old-refresh", "raw": raw}));
    let url = "https://slack.com/api/oauth.v2.access";
    let std = "client_id=the-client&client_secret=the-secret";
    case.exchanges_with(&form(
        url,
        &[],
        &format!("grant_type=authorization_code&code=the-code&redirect_uri={BACK}&{std}"),
    ))
    .refreshes_with(&form(
        url,
        &[],
        &format!("grant_type=refresh_token&refresh_token=old-refresh&{std}"),
    ));
    let both = json!({"ok": true, "access_token": "b", "refresh_token": "r", "expires_in": 43200,
        "authed_user": {"id": "U1", "access_token": "u", "refresh_token": "ur", "expires_in": 3600}});
    let exchanged = case.read(&answer(200, both)).unwrap();
    assert_eq!(
        tokens(&exchanged.credentials),
        owned(("b", Some("r"), IN_AN_HOUR))
    );
    case.exchange(|input| {
        assert!(
            exchange_extras(input, &exchanged, &ambient()).is_empty(),
            "both are new"
        );
    });
    let refused = case
        .read(&answer(200, json!({"ok": false, "error": "invalid_code"})))
        .unwrap_err();
    assert!(
        matches!(&refused, ExchangeError::Rejected(r) if r.oauth_error.as_deref() == Some("invalid_code")),
        "{refused:?}"
    );

    let mut renewal = case
        .read_refresh(&answer(
            200,
            json!({"ok": true, "access_token": "b2", "refresh_token": "r2", "expires_in": 43200}),
        ))
        .unwrap();
    case.renew(|input| {
        let extras = renewal::extras(input, &renewal, &ambient());
        assert_eq!(extras.iter().map(|(_, call)| text(call)).collect::<Vec<_>>(), [form(url, &[], &format!(
            "{std}&grant_type=refresh_token&refresh_token=user-refresh"
        ))]);
        // Refused: the old user token stays.
        renewal::keep_extra(input, extras[0].0, None, ambient().now(), &mut renewal);
        assert_eq!(renewal.credentials.to_json()["raw"]["authed_user"]["access_token"], "u");
        let told = answer(200, json!({"ok": true, "authed_user": {"access_token": "u2", "refresh_token": "ur2", "expires_in": 43200}}));
        renewal::keep_extra(input, extras[0].0, Some(&told), ambient().now(), &mut renewal);
    });
    let stored = renewal.credentials.to_json();
    assert_eq!(
        (&stored["access_token"], &stored["refresh_token"]),
        (&json!("b2"), &json!("r2"))
    );
    let user = json!({"id": "U1", "access_token": "u2", "refresh_token": "ur2", "expires_in": 43200});
    assert_eq!(stored["raw"]["authed_user"], user);

    // A user's token alone is the main token.
    let alone = Case::of("slack").stored(
        json!({"type": "OAUTH2", "access_token": "u", "refresh_token": "ur",
        "raw": {"authed_user": {"access_token": "u", "refresh_token": "ur"}}}),
    );
    let renewal = alone
        .read_refresh(&answer(
            200,
            json!({"ok": true, "authed_user": {"access_token": "u2", "refresh_token": "ur2"}}),
        ))
        .unwrap();
    assert_eq!(tokens(&renewal.credentials), owned(("u2", Some("ur2"), None)));
    alone.renew(|input| assert!(renewal::extras(input, &renewal, &ambient()).is_empty()));
}
