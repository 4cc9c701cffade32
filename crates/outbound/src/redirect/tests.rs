use http::HeaderValue;

use super::*;

const STRICT: Rules<'static> = Rules {
    credentials: Credentials::AllButHarmless,
    headers: AcrossOrigins::Withhold,
    body: AcrossOrigins::Withhold,
};

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "a.example"),
        ("authorization", "Bearer secret"),
        ("cookie", "c=1"),
        ("x-api-key", "secret"),
        ("x-trace", "1"),
        ("accept", "a/b"),
        ("accept", "c/d"),
        ("user-agent", "ua"),
        ("content-type", "text/plain"),
        ("content-length", "4"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn decide(method: &Method, status: u16, location: &str, rules: &Rules<'_>) -> Result<Next, Refused> {
    let url = Url::parse("https://a.example/x/y?q=1").unwrap();
    let mut response = HeaderMap::new();
    response.insert(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
    let headers = headers();
    let has_body = matches!(*method, Method::POST | Method::PUT | Method::DELETE);
    let hop = Hop {
        method,
        url: &url,
        headers: &headers,
        has_body,
    };
    next(&hop, StatusCode::from_u16(status).unwrap(), &response, rules)
}

fn follow(method: &Method, status: u16, location: &str, rules: &Rules<'_>) -> Follow {
    match decide(method, status, location, rules) {
        Ok(Next::Follow(follow)) => *follow,
        other => panic!("{method} {status} {location}: {other:?}"),
    }
}

#[test]
fn methods_change_as_they_do_everywhere() {
    let check = |method: Method, status, expect: Method, keeps_body| {
        let follow = follow(&method, status, "/z", &STRICT);
        assert_eq!(
            (&follow.method, follow.keep_body),
            (&expect, keeps_body),
            "{method} {status}"
        );
        assert_eq!(
            follow.headers.contains_key(CONTENT_TYPE),
            expect == method,
            "{method} {status}"
        );
    };
    for status in [301, 302] {
        check(Method::POST, status, Method::GET, false);
        check(Method::PUT, status, Method::PUT, true);
        check(Method::GET, status, Method::GET, false);
        check(Method::HEAD, status, Method::HEAD, false);
    }
    check(Method::POST, 303, Method::GET, false);
    check(Method::DELETE, 303, Method::GET, false);
    check(Method::HEAD, 303, Method::HEAD, false);
    for status in [307, 308] {
        check(Method::POST, status, Method::POST, true);
        check(Method::DELETE, status, Method::DELETE, true);
    }
}

#[test]
fn other_statuses_and_missing_locations_stay() {
    for status in [200, 204, 300, 304, 305, 306, 400] {
        assert!(
            matches!(decide(&Method::GET, status, "/z", &STRICT), Ok(Next::Stay)),
            "{status}"
        );
    }
    let url = Url::parse("https://a.example/").unwrap();
    let hop = Hop {
        method: &Method::GET,
        url: &url,
        headers: &HeaderMap::new(),
        has_body: false,
    };
    assert!(matches!(
        next(&hop, StatusCode::FOUND, &HeaderMap::new(), &STRICT),
        Ok(Next::Stay)
    ));
}

#[test]
fn locations_are_resolved_and_judged() {
    let check = |location: &str, expect: &str| {
        assert_eq!(
            follow(&Method::GET, 302, location, &STRICT).url.as_str(),
            expect,
            "{location}"
        );
    };
    check("z", "https://a.example/x/z");
    check("/z#part", "https://a.example/z");
    check("?b", "https://a.example/x/y?b");
    check("//b.example/z", "https://b.example/z");
    check("http://b.example:8080", "http://b.example:8080/");
    check("/é", "https://a.example/%C3%A9");
    for location in [
        "ftp://b.example/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://",
        "https://[::1/",
    ] {
        assert_eq!(
            decide(&Method::GET, 302, location, &STRICT).unwrap_err(),
            Refused::Location,
            "{location}"
        );
    }
    let userinfo = decide(&Method::GET, 302, "https://me:pw@b.example/", &STRICT);
    assert_eq!(userinfo.unwrap_err(), Refused::Userinfo);
}

#[test]
fn credentials_stay_with_their_origin() {
    let names = |rules: &Rules<'_>, location: &str| {
        let mut names: Vec<_> = follow(&Method::GET, 302, location, rules)
            .headers
            .keys()
            .map(ToString::to_string)
            .collect();
        names.sort();
        names.join(" ")
    };
    let all = "accept authorization content-length content-type cookie user-agent x-api-key x-trace";
    let injected = [HeaderName::from_static("x-api-key")];
    let proxy = Rules {
        credentials: Credentials::Named(&injected),
        ..STRICT
    };
    let forwarding = Rules {
        headers: AcrossOrigins::Send,
        ..STRICT
    };
    for same in ["/z", "https://a.example:443/z", "HTTPS://A.EXAMPLE/z"] {
        assert_eq!(names(&STRICT, same), all, "{same}");
    }
    for other in [
        "https://b.example/",
        "http://a.example/",
        "https://a.example:444/",
        "https://sub.a.example/",
    ] {
        assert_eq!(
            names(&STRICT, other),
            "accept content-length content-type user-agent",
            "{other}"
        );
        assert_eq!(
            names(&proxy, other),
            "accept content-length content-type user-agent x-trace",
            "{other}"
        );
        assert_eq!(names(&forwarding, other), all, "{other}");
    }
    let follow = follow(&Method::GET, 302, "https://b.example/", &STRICT);
    assert_eq!(
        follow.headers.get_all(ACCEPT).iter().count(),
        2,
        "repeated headers are kept"
    );
}

#[test]
fn a_body_goes_to_another_origin_only_when_told() {
    let to = "https://b.example/";
    for status in [307, 308] {
        assert_eq!(
            decide(&Method::POST, status, to, &STRICT).unwrap_err(),
            Refused::BodyToAnotherOrigin
        );
        assert!(follow(&Method::GET, status, to, &STRICT).same_origin.eq(&false));
        let sending = Rules {
            body: AcrossOrigins::Send,
            ..STRICT
        };
        assert!(follow(&Method::POST, status, to, &sending).keep_body);
    }
    assert!(
        !follow(&Method::POST, 302, to, &STRICT).keep_body,
        "a dropped body goes nowhere"
    );
}
