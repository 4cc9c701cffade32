//! Auth modes as sans-I/O cores: forms to credentials, OAuth, refresh, request signing.
