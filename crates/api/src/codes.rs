//! Every error code of the wire, with its statuses and what it means: the one list behind the envelopes, the
//! OpenAPI document, `patchbay explain` and the pages in `docs/errors/`.

use http::StatusCode;

/// An error code. Compared by name.
#[derive(Debug)]
pub struct Code {
    /// As on the wire: `error.code`.
    pub name: &'static str,
    /// Statuses it is answered with; the first unless the route says otherwise.
    pub statuses: &'static [u16],
    /// One line for a reader who met it.
    pub meaning: &'static str,
}

impl Code {
    /// Its page in the repository.
    pub fn page(&self) -> String {
        format!("docs/errors/{}.md", self.name)
    }

    /// The usual status.
    pub fn status(&self) -> StatusCode {
        self.statuses
            .first()
            .and_then(|status| StatusCode::from_u16(*status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Code {}

/// The code of this name.
pub fn find(name: &str) -> Option<&'static Code> {
    ALL.iter().find(|code| code.name == name).copied()
}

macro_rules! codes {
    ($($constant:ident $name:literal [$($status:literal),+] $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub static $constant: Code = Code { name: $name, statuses: &[$($status),+], meaning: $meaning };
        )*

        /// Every code, by topic.
        pub static ALL: &[&Code] = &[$(&$constant),*];
    };
}

codes! {
    INVALID_QUERY_PARAMS "invalid_query_params" [400] "A query parameter is missing, malformed or unknown; `errors` says which.";
    INVALID_BODY "invalid_body" [400] "The request body breaks a rule; `errors` or the message says which.";
    INVALID_URI_PARAMS "invalid_uri_params" [400] "A path segment is malformed.";
    INVALID_HEADERS "invalid_headers" [400] "A control header is missing or malformed; `errors` says which.";
    INVALID_JSON "invalid_json" [400] "The request body is no JSON object or array.";
    INVALID_CONTENT_TYPE "invalid_content_type" [415] "The route takes JSON, but `Content-Type` says something else.";
    UNSUPPORTED_CONTENT_ENCODING "unsupported_content_encoding" [415] "Request bodies may be encoded with gzip, deflate or br, one at a time.";
    REQUEST_TOO_LARGE "request_too_large" [413] "The request body, decoded, is larger than the configured limit.";
    REQUEST_TIMEOUT "request_timeout" [408] "The request body stopped arriving.";
    NOT_FOUND "not_found" [404] "There is no such path, or no such thing at it.";
    METHOD_NOT_ALLOWED "method_not_allowed" [405] "The path exists, but not with this method; `Allow` lists those it has.";

    MISSING_AUTH_HEADER "missing_auth_header" [401] "The request has no `Authorization` header.";
    MALFORMED_AUTH_HEADER "malformed_auth_header" [401] "The `Authorization` header holds no key.";
    INVALID_SECRET_KEY_FORMAT "invalid_secret_key_format" [401] "The bearer is no API key: keys are UUIDs, version 4.";
    UNKNOWN_ACCOUNT "unknown_account" [401] "The key is well-formed, but unknown or deleted.";
    INVALID_CONNECT_SESSION_TOKEN_FORMAT "invalid_connect_session_token_format" [401] "The bearer is no connect session token.";
    UNKNOWN_CONNECT_SESSION_TOKEN "unknown_connect_session_token" [401] "The connect session is unknown, expired or deleted: create a new one.";
    MISSING_PUBLIC_KEY "missing_public_key" [401] "The authorization route was called with neither a connect session token nor a public key.";
    INVALID_PUBLIC_KEY "invalid_public_key" [401] "The public key is no UUID, version 4.";
    DEPRECATED_AUTHENTICATION "deprecated_authentication" [401] "Public keys are switched off here: use connect sessions.";
    FORBIDDEN "forbidden" [403] "The key is valid, but lacks the scope or environment the route needs.";
    INVALID_PERMISSIONS "invalid_permissions" [403] "The caller may not do this.";
    TOO_MANY_REQUEST "too_many_request" [429] "The rate limit of this window is used up: wait as long as `Retry-After` says.";

    SERVER_ERROR "server_error" [500, 400, 424, 502] "Patchbay could not do it; the message or the logs say why.";
    GENERIC_ERROR_SUPPORT "generic_error_support" [500] "Something unexpected went wrong; `payload` is the reference under which it was logged.";
    SERVICE_UNAVAILABLE "service_unavailable" [503] "What this needs is not available right now: try again.";

    UNKNOWN_ENVIRONMENT "unknown_environment" [404] "No environment has this UUID.";
    FEATURE_DISABLED "feature_disabled" [404] "It needs a setting that this server does not have.";
    CONFLICT "conflict" [409] "Something live already bears this name.";
    RESOURCE_CAPPED "resource_capped" [400] "A configured maximum is reached.";
    INVALID_IS_PROD_FLAG "invalid_is_prod_flag" [400] "The environment `prod` is always a production environment.";
    CANNOT_DELETE_PROD_ENVIRONMENT "cannot_delete_prod_environment" [400] "A production environment cannot be deleted through this route.";
    MULTIPLE_WEBHOOK_SIGNING_KEYS "multiple_webhook_signing_keys" [409] "A rotation of the signing key is still in its grace period.";
    ROTATION_FAILED "rotation_failed" [500] "The signing key could not be rotated; the old one still signs.";

    UNKNOWN_PROVIDER_CONFIG "unknown_provider_config" [400, 404] "No integration has this key in this environment.";
    UNKNOWN_PROVIDER_TEMPLATE "unknown_provider_template" [400, 404] "The integration names a provider that is not in the catalogue.";
    UNKNOWN_CONNECTION "unknown_connection" [404, 400] "No connection has this id under this integration.";
    INVALID_CREDENTIALS "invalid_credentials" [424, 400, 500, 502] "The connection's credentials can no longer be used or refreshed: the end user may have to reconnect.";
    CONNECTION_TEST_FAILED "connection_test_failed" [400] "The provider refused the credentials when they were tried.";
    CONNECTION_VALIDATION_FAILED "connection_validation_failed" [400] "The product's own validation refused the connection.";
    CONNECTION_REFRESH_BACKOFF "connection_refresh_backoff" [424] "A refresh failed moments ago; the next attempt has to wait.";
    REFRESH_INTERRUPTED "refresh_interrupted" [424] "Patchbay was stopped between refreshing and saving, and the provider no longer honours the old token: the end user must reconnect.";

    MISSING_SIGNATURE "webhook_missing_signature" [401] "The provider's webhook should be signed and is not.";
    INVALID_SIGNATURE "webhook_invalid_signature" [401] "The provider's webhook is signed with another secret.";
    MISSING_PROVIDER_CONFIG "missing_provider_config" [400] "`provider_config_key` is missing.";
    MISSING_ACCESS_TOKEN "missing_access_token" [400] "The imported OAuth 2 connection has no `access_token`.";
    MISSING_EXPIRES_AT "missing_expires_at" [400] "Say when the access token expires, or `no_expiration: true`.";
    INVALID_EXPIRES_AT "invalid_expires_at" [400] "`expires_at` is no date.";
    MISSING_OAUTH_TOKEN "missing_oauth_token" [400] "The imported OAuth 1 connection has no `oauth_token`.";
    MISSING_OAUTH_TOKEN_SECRET "missing_oauth_token_secret" [400] "The imported OAuth 1 connection has no `oauth_token_secret`.";
    MISSING_BASIC_USERNAME "missing_basic_username" [400] "The imported BASIC connection has no `username`.";
    MISSING_API_KEY "missing_api_key" [400] "The imported API key connection has no `api_key`.";
    MISSING_APP_ID "missing_app_id" [400] "The imported app connection has no `app_id`.";
    MISSING_INSTALLATION_ID "missing_installation_id" [400] "The imported app connection has no `installation_id`.";
    MISSING_ACCOUNT_ID "missing_account_id" [400] "`connection_config.accountId` is missing.";
    UNKNOWN_OAUTH_TYPE "unknown_oauth_type" [400] "Connections of this auth mode cannot be imported.";

    INVALID_AUTH_MODE "invalid_auth_mode" [400] "The integration's provider uses another way to authorize.";
    INTEGRATION_NOT_ALLOWED "integration_not_allowed" [400] "The connect session is limited to other integrations.";
    INVALID_CONNECTION "invalid_connection" [400] "The connection the session is bound to does not fit this integration.";
    MISSING_HMAC "missing_hmac" [400] "The environment demands an `hmac` from callers with a public key.";
    INVALID_HMAC "invalid_hmac" [400] "The `hmac` does not match.";
    MISSING_CLIENT_ID "missing_client_id" [400] "The OAuth client id is missing.";
    MISSING_CLIENT_SECRET "missing_client_secret" [400] "The OAuth client secret is missing.";
    MISSING_TOKEN_URL "missing_token_url" [400] "The provider's definition has no token URL.";
    CLIENT_CREDENTIALS_FETCH_ERROR "client_credentials_fetch_error" [400] "The provider refused the client credentials.";
    TWO_STEP_CREDENTIALS_FETCH_ERROR "two_step_credentials_fetch_error" [400] "The provider refused the exchange of the entered credentials for a token.";
    INVALID_TWO_STEP_CREDENTIALS "invalid_two_step_credentials" [400] "The provider's answer to the exchange holds no usable token.";

    MISSING_TOKEN_BODY "missing_token_body" [400] "The provider's definition does not say what its token is made of.";
    MISSING_SIGNATURE_TYPE "missing_signature_type" [400] "The provider's definition does not say how its token is signed.";
    FAILED_TO_GENERATE "failed_to_generate" [400] "A value that the token or assertion is made of is missing.";
    FAILED_TO_SIGN "failed_to_sign" [400] "The token or assertion could not be signed with the key that was entered.";
    MISSING_AWS_SIGV4_SERVICE "missing_aws_sigv4_service" [400] "The integration does not say which AWS service it signs for.";
    MISSING_AWS_SIGV4_STS_ENDPOINT "missing_aws_sigv4_sts_endpoint" [400] "The integration has no credentials endpoint, though it says that one of its own hands out the keys.";
    MISSING_AWS_SIGV4_BUILTIN_CREDENTIALS "missing_aws_sigv4_builtin_credentials" [400] "The integration has no access key to assume roles with.";
    MISSING_AWS_SIGV4_REGION "missing_aws_sigv4_region" [400] "No AWS region was given, and the integration has no default.";
    MISSING_AWS_SIGV4_ROLE_ARN "missing_aws_sigv4_role_arn" [400] "No role was given.";
    MISSING_AWS_SIGV4_EXTERNAL_ID "missing_aws_sigv4_external_id" [400] "The stored connection has no external id.";
    INVALID_AWS_SIGV4_CONFIG "invalid_aws_sigv4_config" [400] "A setting of the integration or a parameter of the connection is not usable; the message says which.";
    AWS_SIGV4_STS_REQUEST_FAILED "aws_sigv4_sts_request_failed" [502] "The role could not be assumed; the message has the answer of the token service.";
    SIGNATURE_TOKEN_GENERATION_ERROR "signature_token_generation_error" [400] "The signature could not be built from the provider's definition.";

    BASE_URL_OVERRIDE_DISABLED "base_url_override_disabled" [400] "Overriding the base URL is switched off.";
    BASE_URL_OVERRIDE_NOT_ALLOWED "base_url_override_not_allowed" [400] "The base URL may not be overridden with this host.";
    MISSING_API_URL "missing_api_url" [400] "The provider's definition has no base URL: send `Base-Url-Override`.";
    MISSING_PROVIDER "missing_provider" [400] "The integration names no provider.";
    UNKNOWN_PROVIDER "unknown_provider" [400] "The integration's provider is not in the catalogue.";
    UNSUPPORTED_PROVIDER "unsupported_provider" [400] "The provider's definition cannot be used for proxied requests.";
    UNSUPPORTED_AUTH "unsupported_auth" [400] "Credentials of this kind cannot be put on a proxied request.";
    FAILED_TO_GET_CONNECTION "failed_to_get_connection" [400] "The connection could not be read.";
    INVALID_CERTIFICATE_OR_KEY_FORMAT "invalid_certificate_or_key_format" [400] "The connection's client certificate or key cannot be read.";
    UPSTREAM_UNREACHABLE "upstream_unreachable" [502] "The provider could not be reached.";
    UPSTREAM_TIMEOUT "upstream_timeout" [504] "The provider did not answer in time.";
    DNS_RESOLUTION_FAILED "dns_resolution_failed" [502] "The provider's host name could not be resolved.";
    MISSING_CONNECTION_CONFIG "missing_connection_config" [400] "The provider's URL needs a value that the connection's `connection_config` does not have; the message names it.";
    INVALID_URL "invalid_url" [400] "Base URL and path do not make a URL this provider allows.";
    INVALID_HEADER_VALUE "invalid_header_value" [400] "A credential or header contains characters a header may not have.";
    ADDRESS_BLOCKED "address_blocked" [400, 403] "The address is in a network Patchbay may not call.";
    INVALID_CLI_VERSION "invalid_cli_version" [400] "The CLI is older than this route needs.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        for (index, code) in ALL.iter().enumerate() {
            assert!(
                ALL[..index].iter().all(|other| other != code),
                "{} is listed twice",
                code.name
            );
            assert!(
                code.statuses.iter().all(|status| (400..600).contains(status)),
                "{}",
                code.name
            );
            assert!(
                code.name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(code.meaning.ends_with('.'), "{}", code.name);
            assert_eq!(find(code.name), Some(*code));
        }
        assert_eq!(NOT_FOUND.page(), "docs/errors/not_found.md");
    }
}
