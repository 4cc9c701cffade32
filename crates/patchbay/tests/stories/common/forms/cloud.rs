//! Roles, a token service, and an API whose requests are signed (AWS_SIGV4). Signatures are computed here once more.

use aws_lc_rs::{digest, hmac};
use axum::response::Response;
use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;

use super::{Office, Seen, ok, refuse};

pub const ROLE: &str = "arn:aws:iam::123456789012:role/teams/Reader";

pub const DEFINITION: &str = r"
form-aws:
    display_name: Cloud
    categories: [storage]
    auth_mode: AWS_SIGV4
    token_url: BASE/cloud/sts/${connectionConfig.region}/
    docs: https://docs.example.com
    proxy:
        base_url: BASE/cloud/${connectionConfig.service}/${connectionConfig.region}
    integration_config:
        service: {type: string, title: Service, description: Code., optional: true}
        defaultRegion: {type: string, title: Region, description: Default., optional: true}
        stsMode: {type: string, title: Mode, description: Who., enum: [builtin, custom], optional: true}
        awsAccessKeyId: {type: string, title: Key, description: Key., secret: true, optional: true}
        awsSecretAccessKey: {type: string, title: Secret, description: Secret., secret: true, optional: true}
        stsEndpointUrl: {type: string, title: Endpoint, description: Address., optional: true}
        stsAuthType: {type: string, title: Auth, description: How., enum: [none, api_key, basic], optional: true}
        stsAuthHeader: {type: string, title: Header, description: Name., optional: true}
        stsApiKey: {type: string, title: Key, description: Key., secret: true, optional: true}
        stsAuthUsername: {type: string, title: User, description: Name., optional: true}
        stsAuthPassword: {type: string, title: Password, description: Secret., secret: true, optional: true}
    connection_config:
        region: {type: string, title: Region, description: Where., pattern: '^[a-z0-9-]{1,64}$', optional: true}
        service: {type: string, title: Service, description: Code., automated: true}
    credentials:
        role_arn: {type: string, title: Role, description: Yours., pattern: '^arn:aws:iam::[0-9]+:role/.+$'}
";

pub fn answer(office: &Office, seen: &Seen) -> Response {
    let path = seen.path().strip_prefix("/cloud/").unwrap();
    if path.starts_with("sts/") && seen.method == "POST" {
        if let Some(failure) = office.failure("cloud") {
            return failure;
        }
        return assume(office, seen, path);
    }
    if path.starts_with("sts/") {
        return match signed(office, seen, "sts", path.split('/').nth(1).unwrap()) {
            Ok(_) => xml(&format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/{}/s</Arn>\
                 </GetCallerIdentityResult></GetCallerIdentityResponse>",
                office.newest("cloud-role")
            )),
            Err(why) => refuse(403, why),
        };
    }
    if path == "custom" {
        return own_service(office, seen);
    }
    let mut parts = path.split('/');
    let (service, region) = (parts.next().unwrap(), parts.next().unwrap_or_default());
    match signed(office, seen, service, region) {
        Ok(headers) => ok(&json!({"signed": headers, "body": seen.text()})),
        Err(why) => refuse(403, why),
    }
}

fn xml(body: &str) -> Response {
    Response::builder()
        .header("content-type", "text/xml")
        .body(body.to_owned().into())
        .unwrap()
}

/// Temporary keys, kept with their session token.
fn keys(office: &Office, role: &str) -> (String, String, String) {
    let count = office.kept("cloud-keys").len() + 1;
    let (id, secret, session) = (
        format!("ASIA{count}"),
        format!("planted-secret-{count}"),
        format!("planted-aws-session-{count}"),
    );
    office.keep("cloud-keys", format!("{id} {secret} {session}"));
    office.keep("cloud-role", role.rsplit('/').next().unwrap());
    (id, secret, session)
}

fn assume(office: &Office, seen: &Seen, path: &str) -> Response {
    let region = path.split('/').nth(1).unwrap();
    if let Err(why) = signed(office, seen, "sts", region) {
        return refuse(403, why);
    }
    let asked = seen.fields();
    let good = asked["Action"] == "AssumeRole"
        && asked["Version"] == "2011-06-15"
        && asked["DurationSeconds"] == "3600"
        && asked["RoleSessionName"].as_str().unwrap().len() == "nango-".len() + 16;
    if !good {
        return refuse(400, "ValidationError");
    }
    office.keep("cloud-external", asked["ExternalId"].as_str().unwrap());
    let role = asked["RoleArn"].as_str().unwrap();
    if role.ends_with("Stranger") {
        return Response::builder()
            .status(403)
            .header("content-type", "text/xml")
            .body("<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".into())
            .unwrap();
    }
    // A service that hands out another role than the one that was asked for.
    let (id, secret, session) = keys(
        office,
        if role.ends_with("Swapped") {
            "x/Other"
        } else {
            role
        },
    );
    let end = patchbay_ambient::Clock::now(&office.clock)
        .checked_add(std::time::Duration::from_hours(1))
        .unwrap();
    xml(&format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{session}</SessionToken>\
         <Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

/// The operator's own token service.
fn own_service(office: &Office, seen: &Seen) -> Response {
    let asked = seen.fields();
    if seen.header("x-sts-key") != "planted-sts-key" {
        return refuse(401, "no key");
    }
    office.keep("cloud-external", asked["external_id"].as_str().unwrap());
    if asked["service"] != "s3" || asked["region"] != "eu-west-1" {
        return refuse(400, "bad request");
    }
    let (id, secret, session) = keys(office, asked["role_arn"].as_str().unwrap());
    let end = patchbay_ambient::Clock::now(&office.clock).as_second() + 3600;
    ok(
        &json!({"credentials": {"accessKeyId": id, "secret_access_key": secret, "sessionToken": session, "expiresAt": end}}),
    )
}

/// The names of the signed headers, if the signature is good.
fn signed(office: &Office, seen: &Seen, service: &str, region: &str) -> Result<Vec<String>, &'static str> {
    let header = seen
        .header("authorization")
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("not signed")?;
    let part = |name: &str| {
        let found = header
            .split(", ")
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.ok_or("a part is missing")
    };
    let (credential, names, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let (id, scope) = credential.split_once('/').ok_or("no scope")?;
    let date = seen.header("x-amz-date");
    if scope != format!("{}/{region}/{service}/aws4_request", &date[..8]) {
        return Err("wrong scope");
    }
    let secret = if id == "AKIAOPERATOR" {
        "planted-aws-secret".to_owned()
    } else {
        let kept = office.newest("cloud-keys");
        let [newest, secret, session] = kept.split(' ').collect::<Vec<_>>()[..] else {
            return Err("no keys");
        };
        if newest != id || seen.header("x-amz-security-token") != session {
            return Err("not these keys");
        }
        secret.to_owned()
    };
    let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, &seen.body).as_ref());
    if seen.header("x-amz-content-sha256") != hash {
        return Err("another body");
    }
    let names: Vec<String> = names.split(';').map(str::to_owned).collect();
    let must = |name: &str| names.iter().any(|known| known == name);
    let amazon = seen
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-amz-"));
    if !must("host") || !amazon.map(http::HeaderName::as_str).all(must) {
        return Err("a header is not signed");
    }
    let mut lines = String::new();
    for name in &names {
        let value: Vec<_> = seen.header(name).split_whitespace().collect();
        lines += &[name, ":", &value.join(" "), "\n"].concat();
    }
    let mut query: Vec<(String, String)> = seen
        .query()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (recoded(name), recoded(value)))
        .collect();
    query.sort();
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let path = if service == "s3" {
        seen.path().to_owned()
    } else {
        seen.path().split('/').map(encoded).collect::<Vec<_>>().join("/")
    };
    let canonical = format!(
        "{}\n{path}\n{}\n{lines}\n{}\n{hash}",
        seen.method,
        query.join("&"),
        names.join(";")
    );
    let hashed = HEXLOWER.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
    let mut key = format!("AWS4{secret}").into_bytes();
    for step in scope.split('/').chain([to_sign.as_str()]) {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), step.as_bytes())
            .as_ref()
            .to_vec();
    }
    if signature == HEXLOWER.encode(&key) {
        Ok(names)
    } else {
        Err("bad signature")
    }
}

fn recoded(text: &str) -> String {
    encoded(&percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap())
}

fn encoded(text: &str) -> String {
    const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, UNRESERVED).to_string()
}
