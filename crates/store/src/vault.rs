//! Encryption at rest.
//!
//! Three layers: the operator's key ring (configuration, never stored) wraps data keys (table `data_key`, one an
//! environment and one an account), and a data key seals values with AES-256-GCM. Rotating the ring re-wraps the
//! data keys and touches no value. Deleting a data key makes everything sealed with it unreadable.
//!
//! A sealed value is `1 | data key id (4 bytes) | nonce (12) | ciphertext | tag (16)`; the additional data is the
//! place it is stored in (`table.column:row`), so a value copied to another row does not open. A wrapped key is
//! `1 | nonce | ciphertext | tag`; the ring key it needs is in the column beside it. Nonces are random: with a key
//! per environment the count stays far below the 2³² of AES-GCM. They come from the crypto library and not from
//! the injected [`patchbay_ambient::Entropy`], because a repeated nonce gives the key away and nothing needs it
//! repeatable.
//!
//! A wrong ring is noticed before anything is written: table `key_check` holds a constant sealed with the ring.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use patchbay_ambient::Entropy;
use patchbay_types::{AccountId, EnvironmentId};
use zeroize::{Zeroize, Zeroizing};

use crate::db::DbError;

const VERSION: u8 = 1;
const KEY_LEN: usize = 32;
const DATA_KEY_ID_LEN: usize = 4;
const CHECK: &[u8] = b"patchbay";
const CHECK_AAD: &str = "key_check.sealed:1";

/// One 256-bit key of the operator's key ring.
#[derive(Clone)]
pub struct EncryptionKey(Zeroizing<[u8; KEY_LEN]>);

impl EncryptionKey {
    /// The first 8 bytes of the key's SHA-256, in hex: names the key in tables and messages.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&digest::digest(&digest::SHA256, &self.0[..]).as_ref()[..8])
    }
}

impl From<[u8; KEY_LEN]> for EncryptionKey {
    fn from(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({})", self.id())
    }
}

/// Whose data key seals a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// Account-wide secrets.
    Account(AccountId),
    /// Everything inside one environment.
    Environment(EnvironmentId),
}

impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account:{id}"),
            Self::Environment(id) => write!(f, "environment:{id}"),
        }
    }
}

impl From<AccountId> for KeyScope {
    fn from(id: AccountId) -> Self {
        Self::Account(id)
    }
}

impl From<EnvironmentId> for KeyScope {
    fn from(id: EnvironmentId) -> Self {
        Self::Environment(id)
    }
}

/// The key ring and the unwrapped data keys, shared by all transactions of a store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Vault(Arc<Inner>);

struct Inner {
    ring: Vec<RingKey>,
    entropy: Arc<dyn Entropy>,
    data_keys: RwLock<HashMap<KeyScope, DataKey>>,
}

struct RingKey {
    id: String,
    key: RandomizedNonceKey,
}

/// An unwrapped data key. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DataKey(Arc<DataKeyInner>);

struct DataKeyInner {
    id: [u8; DATA_KEY_ID_LEN],
    key: RandomizedNonceKey,
}

/// A new data key as it is stored.
pub(crate) struct Wrapped {
    pub(crate) wrapped: Vec<u8>,
    pub(crate) key_id: String,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("ring", &self.key_ids())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(***)")
    }
}

impl Vault {
    /// `None` if the ring is empty.
    pub(crate) fn new(ring: &[EncryptionKey], entropy: Arc<dyn Entropy>) -> Option<Self> {
        if ring.is_empty() {
            return None;
        }
        let ring = ring
            .iter()
            .map(|key| RingKey {
                id: key.id(),
                key: cipher(&key.0),
            })
            .collect();
        Some(Self(Arc::new(Inner {
            ring,
            entropy,
            data_keys: RwLock::default(),
        })))
    }

    /// Ids of the ring, the active key first.
    pub(crate) fn key_ids(&self) -> Vec<String> {
        self.0.ring.iter().map(|key| key.id.clone()).collect()
    }

    pub(crate) fn active_id(&self) -> &str {
        &self.active().id
    }

    pub(crate) fn has(&self, key_id: &str) -> bool {
        self.0.ring.iter().any(|key| key.id == key_id)
    }

    /// The constant of `key_check`, sealed with the active key.
    pub(crate) fn seal_check(&self) -> Vec<u8> {
        seal(&self.active().key, &[VERSION], CHECK_AAD, CHECK)
    }

    /// Whether the ring key `key_id` made `sealed`.
    pub(crate) fn check(&self, key_id: &str, sealed: &[u8]) -> bool {
        let Some(key) = self.0.ring.iter().find(|key| key.id == key_id) else {
            return false;
        };
        open(&key.key, 1, CHECK_AAD, sealed).is_some_and(|plain| plain[..] == *CHECK)
    }

    pub(crate) fn new_wrapped_key(&self, scope: KeyScope) -> Wrapped {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        self.0.entropy.fill(&mut bytes[..]);
        self.wrap(&scope.to_string(), &bytes[..])
    }

    pub(crate) fn unwrap_key(
        &self,
        scope: KeyScope,
        wrapped: &[u8],
        key_id: &str,
    ) -> Result<DataKey, DbError> {
        let bytes = self.unwrap_bytes(&scope.to_string(), wrapped, key_id)?;
        let bytes: &[u8; KEY_LEN] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| DbError::internal(format!("the data key of {scope} has the wrong length")))?;
        let hash = digest::digest(&digest::SHA256, bytes);
        let mut id = [0; DATA_KEY_ID_LEN];
        id.copy_from_slice(&hash.as_ref()[..DATA_KEY_ID_LEN]);
        Ok(DataKey(Arc::new(DataKeyInner {
            id,
            key: cipher(bytes),
        })))
    }

    /// The same data key, wrapped with the active key.
    pub(crate) fn rewrap(&self, scope: &str, wrapped: &[u8], key_id: &str) -> Result<Wrapped, DbError> {
        let bytes = self.unwrap_bytes(scope, wrapped, key_id)?;
        Ok(self.wrap(scope, &bytes))
    }

    pub(crate) fn recall(&self, scope: KeyScope) -> Option<DataKey> {
        self.0
            .data_keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&scope)
            .cloned()
    }

    /// `None` forgets.
    pub(crate) fn remember(&self, scope: KeyScope, key: Option<DataKey>) {
        let mut keys = self.0.data_keys.write().unwrap_or_else(PoisonError::into_inner);
        match key {
            Some(key) => keys.insert(scope, key),
            None => keys.remove(&scope),
        };
    }

    fn active(&self) -> &RingKey {
        self.0
            .ring
            .first()
            .expect("a vault is made only from a ring that is not empty")
    }

    fn wrap(&self, scope: &str, bytes: &[u8]) -> Wrapped {
        let wrapped = seal(&self.active().key, &[VERSION], &wrap_aad(scope), bytes);
        Wrapped {
            wrapped,
            key_id: self.active_id().to_owned(),
        }
    }

    fn unwrap_bytes(&self, scope: &str, wrapped: &[u8], key_id: &str) -> Result<Zeroizing<Vec<u8>>, DbError> {
        let Some(key) = self.0.ring.iter().find(|key| key.id == key_id) else {
            return Err(DbError::internal(format!(
                "the data key of {scope} is wrapped with key {key_id}, which is not in the key ring"
            )));
        };
        open(&key.key, 1, &wrap_aad(scope), wrapped)
            .ok_or_else(|| DbError::internal(format!("the data key of {scope} does not unwrap: corrupt")))
    }
}

impl DataKey {
    pub(crate) fn seal(&self, aad: &str, plaintext: &[u8]) -> Vec<u8> {
        let mut header = [VERSION; 1 + DATA_KEY_ID_LEN];
        header[1..].copy_from_slice(&self.0.id);
        seal(&self.0.key, &header, aad, plaintext)
    }

    /// Whether this key is the one named in `sealed`.
    pub(crate) fn made(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=DATA_KEY_ID_LEN) == Some(&self.0.id)
    }

    pub(crate) fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DbError> {
        open(&self.0.key, 1 + DATA_KEY_ID_LEN, aad, sealed)
            .ok_or_else(|| DbError::internal(format!("the sealed value at {aad} does not open")))
    }
}

fn wrap_aad(scope: &str) -> String {
    format!("data_key.wrapped:{scope}")
}

fn cipher(bytes: &[u8; KEY_LEN]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("AES-256-GCM takes exactly 32 bytes")
}

fn seal(key: &RandomizedNonceKey, header: &[u8], aad: &str, plaintext: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
    text.extend_from_slice(plaintext);
    let nonce = key
        .seal_in_place_append_tag(Aad::from(aad.as_bytes()), &mut text)
        .expect("AES-GCM seals anything shorter than 64 GiB");
    let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
    let mut sealed = Vec::with_capacity(header.len() + NONCE_LEN + text.len());
    sealed.extend_from_slice(header);
    sealed.extend_from_slice(nonce);
    sealed.append(&mut text);
    sealed
}

fn open(key: &RandomizedNonceKey, header: usize, aad: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if *sealed.first()? != VERSION {
        return None;
    }
    let nonce = sealed.get(header..header + NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = Zeroizing::new(sealed[header + NONCE_LEN..].to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(aad.as_bytes()), &mut text)
        .ok()?
        .len();
    text[length..].zeroize();
    text.truncate(length);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_ambient::SystemEntropy;

    fn vault(keys: &[[u8; 32]]) -> Vault {
        let keys: Vec<EncryptionKey> = keys.iter().map(|key| EncryptionKey::from(*key)).collect();
        Vault::new(&keys, Arc::new(SystemEntropy)).unwrap()
    }

    const SCOPE: KeyScope = KeyScope::Environment(EnvironmentId(7));

    #[test]
    fn a_value_opens_only_with_its_key_at_its_place_and_unchanged() {
        let vault = vault(&[[1; 32]]);
        let stored = vault.new_wrapped_key(SCOPE);
        let key = vault.unwrap_key(SCOPE, &stored.wrapped, &stored.key_id).unwrap();
        let sealed = key.seal("t.c:1", b"secret");
        assert_eq!(sealed.len(), 1 + 4 + 12 + 6 + 16);
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(key.open("t.c:1", &sealed).unwrap()[..], *b"secret");
        assert!(key.open("t.c:2", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let authentic = key.made(&changed) && key.open("t.c:1", &changed).is_ok();
            assert!(!authentic, "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(key.open("t.c:1", &sealed[..length]).is_err(), "cut to {length}");
        }
        assert_ne!(sealed, key.seal("t.c:1", b"secret"), "nonces never repeat");
    }

    #[test]
    fn a_data_key_is_bound_to_its_scope_and_survives_a_new_first_key() {
        let old = vault(&[[1; 32]]);
        let stored = old.new_wrapped_key(SCOPE);
        let other = KeyScope::Account(AccountId(7));
        assert!(old.unwrap_key(other, &stored.wrapped, &stored.key_id).is_err());

        let both = vault(&[[2; 32], [1; 32]]);
        let again = both
            .rewrap(&SCOPE.to_string(), &stored.wrapped, &stored.key_id)
            .unwrap();
        assert_eq!(again.key_id, both.active_id());
        let new = vault(&[[2; 32]]);
        assert!(new.unwrap_key(SCOPE, &stored.wrapped, &stored.key_id).is_err());
        let key = new.unwrap_key(SCOPE, &again.wrapped, &again.key_id).unwrap();
        let sealed = old
            .unwrap_key(SCOPE, &stored.wrapped, &stored.key_id)
            .unwrap()
            .seal("a", b"x");
        assert!(key.made(&sealed));
        assert_eq!(key.open("a", &sealed).unwrap()[..], *b"x");
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?} {:?}", EncryptionKey::from([0x41; 32]), vault(&[[0x41; 32]]));
        assert!(!text.contains("AAAA") && !text.contains("65, 65"), "{text}");
        assert!(vault(&[[3; 32]]).check(
            &EncryptionKey::from([3; 32]).id(),
            &vault(&[[3; 32]]).seal_check()
        ));
        assert!(!vault(&[[4; 32]]).check(
            &EncryptionKey::from([3; 32]).id(),
            &vault(&[[3; 32]]).seal_check()
        ));
    }
}
