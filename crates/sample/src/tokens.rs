//! The tokens: codes, families of refresh tokens, access tokens. No I/O, no clock of its own.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::Timestamp;
use patchbay_ambient::Entropy;

use crate::behaviour::{EarlyRefresh, OldToken, RefreshField, Rotation, TokenBehaviour};

/// Everything issued so far.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    codes: HashMap<String, Code>,
    families: Vec<Family>,
    refresh: HashMap<String, Refresh>,
    access: HashMap<String, Access>,
}

/// What the person approved.
#[derive(Clone, Debug)]
pub(crate) struct Approval {
    pub(crate) client: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
    /// PKCE: method and challenge.
    pub(crate) challenge: Option<(String, String)>,
}

#[derive(Debug)]
struct Code {
    approval: Approval,
    expires: Timestamp,
    family: Option<usize>,
}

#[derive(Debug)]
struct Family {
    client: String,
    scope: String,
    revoked: bool,
    /// The newest tokens.
    refresh: Option<String>,
    access: String,
}

#[derive(Debug)]
struct Refresh {
    family: usize,
    replaced: Option<Timestamp>,
}

#[derive(Debug)]
struct Access {
    /// `None`: the client's own.
    family: Option<usize>,
    client: String,
    scope: String,
    expires: Timestamp,
}

/// Tokens as they go into an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
    pub(crate) expires: Timestamp,
    pub(crate) life: Duration,
    pub(crate) scope: String,
}

/// Why nothing was issued: the OAuth error code and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str, pub(crate) &'static str);

/// Who an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    Person { scope: String },
    Client { scope: String },
}

/// What issuing needs from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    pub(crate) now: Timestamp,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) life: Duration,
}

const CODE_LIFE: Duration = Duration::from_mins(1);

impl Tokens {
    pub(crate) fn approve(&mut self, approval: Approval, world: World<'_>) -> String {
        let code = random("sample_code_", world.entropy);
        let expires = later(world.now, CODE_LIFE);
        self.codes.insert(
            code.clone(),
            Code {
                approval,
                expires,
                family: None,
            },
        );
        code
    }

    pub(crate) fn exchange(
        &mut self,
        client: &str,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
        behaviour: &TokenBehaviour,
        world: World<'_>,
    ) -> Result<Issued, Refused> {
        let Some(known) = self.codes.get(code) else {
            return Err(Refused("invalid_grant", "unknown code"));
        };
        if known.approval.client != client {
            return Err(Refused("invalid_grant", "the code was made for another client"));
        }
        if let Some(family) = known.family {
            self.families[family].revoked = true;
            return Err(Refused(
                "invalid_grant",
                "the code was used before; its tokens are revoked",
            ));
        }
        if known.expires <= world.now {
            return Err(Refused("invalid_grant", "the code has expired"));
        }
        if redirect_uri != Some(&known.approval.redirect_uri) {
            return Err(Refused(
                "invalid_grant",
                "redirect_uri differs from the authorization request",
            ));
        }
        if !proves(known.approval.challenge.as_ref(), verifier) {
            return Err(Refused(
                "invalid_grant",
                "code_verifier does not match the code_challenge",
            ));
        }
        let scope = known.approval.scope.clone();
        let family = self.families.len();
        self.families.push(Family {
            client: client.to_owned(),
            scope,
            revoked: false,
            refresh: None,
            access: String::new(),
        });
        if let Some(known) = self.codes.get_mut(code) {
            known.family = Some(family);
        }
        Ok(self.mint(family, behaviour.refresh_field == RefreshField::Present, world))
    }

    pub(crate) fn refresh(
        &mut self,
        client: &str,
        token: &str,
        behaviour: &TokenBehaviour,
        world: World<'_>,
    ) -> Result<Issued, Refused> {
        let Some(known) = self.refresh.get(token) else {
            return Err(Refused("invalid_grant", "unknown refresh token"));
        };
        let number = known.family;
        let family = &mut self.families[number];
        if family.client != client {
            return Err(Refused("invalid_grant", "the refresh token is another client's"));
        }
        if family.revoked {
            return Err(Refused("invalid_grant", "the grant was revoked"));
        }
        if let Some(replaced) = known.replaced {
            let grace = Duration::from_secs(behaviour.honour_old_for_seconds.into());
            if world.now >= later(replaced, grace) {
                match behaviour.old_token {
                    OldToken::Honour => {}
                    OldToken::Refuse => {
                        return Err(Refused("invalid_grant", "the refresh token was used before"));
                    }
                    OldToken::RevokeFamily => {
                        family.revoked = true;
                        return Err(Refused(
                            "invalid_grant",
                            "a used refresh token came back; the grant is revoked",
                        ));
                    }
                }
            }
        }
        if behaviour.early == EarlyRefresh::SameTokens
            && let Some(access) = self.access.get(&family.access)
            && let Ok(left) = Duration::try_from(access.expires.duration_since(world.now))
            && !left.is_zero()
        {
            let refresh = (behaviour.refresh_field == RefreshField::Present)
                .then(|| family.refresh.clone())
                .flatten();
            return Ok(Issued {
                access: family.access.clone(),
                refresh,
                expires: access.expires,
                life: left,
                scope: family.scope.clone(),
            });
        }
        let told = behaviour.refresh_field == RefreshField::Present;
        if told && behaviour.rotation == Rotation::Rotate {
            return Ok(self.mint(number, true, world));
        }
        let refresh = told.then(|| token.to_owned());
        Ok(Issued {
            refresh,
            ..self.mint(number, false, world)
        })
    }

    pub(crate) fn client_token(&mut self, client: &str, scope: &str, world: World<'_>) -> Issued {
        let access = random("sample_cc_", world.entropy);
        let expires = later(world.now, world.life);
        self.access.insert(
            access.clone(),
            Access {
                family: None,
                client: client.to_owned(),
                scope: scope.to_owned(),
                expires,
            },
        );
        Issued {
            access,
            refresh: None,
            expires,
            life: world.life,
            scope: scope.to_owned(),
        }
    }

    /// Whose access token it is.
    pub(crate) fn client_of(&self, access: &str) -> Option<String> {
        self.access.get(access).map(|known| known.client.clone())
    }

    pub(crate) fn check(&self, access: &str, now: Timestamp) -> Result<Bearer, &'static str> {
        let Some(known) = self.access.get(access) else {
            return Err("unknown access token");
        };
        if known.expires <= now {
            return Err("the access token has expired");
        }
        let scope = known.scope.clone();
        match known.family {
            Some(family) if self.families[family].revoked => Err("the grant was revoked"),
            Some(_) => Ok(Bearer::Person { scope }),
            None => Ok(Bearer::Client { scope }),
        }
    }

    /// RFC 7009: an unknown token is fine too.
    pub(crate) fn revoke(&mut self, token: &str) {
        self.access.remove(token);
        if let Some(known) = self.refresh.get(token) {
            self.families[known.family].revoked = true;
        }
    }

    /// As if the person had gone to their settings and disconnected every app.
    pub(crate) fn revoke_all(&mut self) {
        self.families.iter_mut().for_each(|family| family.revoked = true);
        self.access.clear();
    }

    pub(crate) fn expire_access(&mut self, now: Timestamp) {
        self.access.values_mut().for_each(|access| access.expires = now);
    }

    /// Loses the newest refresh token of every grant, as a database does that falls back on a replica.
    pub(crate) fn forget_newest(&mut self) {
        for family in &mut self.families {
            if let Some(newest) = family.refresh.take() {
                self.refresh.remove(&newest);
            }
        }
    }

    fn mint(&mut self, number: usize, with_refresh: bool, world: World<'_>) -> Issued {
        let family = &mut self.families[number];
        let access = random("sample_at_", world.entropy);
        let expires = later(world.now, world.life);
        self.access.insert(
            access.clone(),
            Access {
                family: Some(number),
                client: family.client.clone(),
                scope: family.scope.clone(),
                expires,
            },
        );
        family.access.clone_from(&access);
        let refresh = with_refresh.then(|| random("sample_rt_", world.entropy));
        if let Some(refresh) = &refresh {
            let before = family.refresh.replace(refresh.clone());
            if let Some(before) = before.and_then(|before| self.refresh.get_mut(&before)) {
                before.replaced.get_or_insert(world.now);
            }
            self.refresh.insert(
                refresh.clone(),
                Refresh {
                    family: number,
                    replaced: None,
                },
            );
        }
        Issued {
            access,
            refresh,
            expires,
            life: world.life,
            scope: family.scope.clone(),
        }
    }
}

fn proves(challenge: Option<&(String, String)>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some((method, challenge)), Some(verifier)) if method == "S256" => {
            let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
            BASE64URL_NOPAD.encode(hash.as_ref()) == *challenge
        }
        (Some((_, challenge)), Some(verifier)) => verifier == challenge,
        _ => false,
    }
}

fn random(prefix: &str, entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 20];
    entropy.fill(&mut bytes);
    format!("{prefix}{}", HEXLOWER.encode(&bytes))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}
