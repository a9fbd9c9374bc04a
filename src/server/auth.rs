//! Basic authentication against bcrypt hashes.
//!
//! Bcrypt is slow on purpose. So passwords that were right are cached, and are recognised without waiting for anything. Of
//! others, one is tried at a time, and of each address only one waits for that: who guesses holds up others by one attempt.
//! Every attempt costs the same, whether the user is known or not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::SHA256_OUTPUT_LEN;
use ring::hmac::{Context, HMAC_SHA256, Key};
use ring::rand::SystemRandom;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Right passwords that are cached.
const CACHED_MAX: usize = 100;

/// A message authentication code.
type Code = [u8; SHA256_OUTPUT_LEN];

pub(super) struct Passwords {
    /// Codes of user, hash and password, under a key of this process: they tell nobody the password, neither by what is in
    /// memory nor by the time that a look-up takes. The hash is part of it, so that a changed one counts at once. Wrong
    /// passwords are not kept: whoever guesses shall neither fill the cache nor be answered fast.
    right: parking_lot::Mutex<HashSet<Code>>,
    /// Nothing if the system has no random numbers: then nothing is cached.
    key: Option<Key>,
    /// One attempt at a time, in order.
    turn: Arc<Mutex<()>>,
    /// One attempt of an address, which waits for its turn; of those that have one.
    by_address: parking_lot::Mutex<HashMap<IpAddr, Arc<Mutex<()>>>>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            right: parking_lot::Mutex::default(),
            key: Key::generate(HMAC_SHA256, &SystemRandom::new()).ok(),
            turn: Arc::default(),
            by_address: parking_lot::Mutex::default(),
        }
    }

    /// Whether an `Authorization` header names a user and the right password. Calls `wait` if it takes an attempt to know.
    pub(super) async fn admit(
        &self,
        users: &BTreeMap<String, String>,
        authorization: Option<&str>,
        address: IpAddr,
        wait: impl FnOnce(),
    ) -> bool {
        let Some((user, password)) = authorization.and_then(credentials) else {
            return false;
        };
        let cost_max = users.values().filter_map(|hash| cost(hash)).max();
        let Some(cost_max) = cost_max else {
            return false;
        };
        let known = users.get(&user).cloned();
        let code = known
            .as_ref()
            .and_then(|hash| self.code(&[&user, hash, &password]));
        if code.is_some_and(|code| self.right.lock().contains(&code)) {
            return true;
        }
        wait();
        let turn = self.turn(address).await;
        let right = tokio::task::spawn_blocking(move || {
            // Should the client go away meanwhile, the next attempt waits for this one nevertheless.
            let _turn = turn;
            verify(&password, known.as_deref(), cost_max)
        });
        let right = right.await.unwrap_or(false);
        if let Some(code) = code.filter(|_| right) {
            let mut cached = self.right.lock();
            if cached.len() >= CACHED_MAX {
                cached.clear();
            }
            cached.insert(code);
        }
        right
    }

    fn code(&self, parts: &[&str]) -> Option<Code> {
        let mut context = Context::with_key(self.key.as_ref()?);
        for part in parts {
            // With its length, so that no part can reach into the next one.
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().ok()
    }

    async fn turn(&self, address: IpAddr) -> [OwnedMutexGuard<()>; 2] {
        let own = {
            let mut by_address = self.by_address.lock();
            by_address.retain(|_, queue| Arc::strong_count(queue) > 1);
            by_address.entry(address).or_default().clone()
        };
        let own = own.lock_owned().await;
        [self.turn.clone().lock_owned().await, own]
    }
}

/// Takes as long as a hash of the highest cost, 2^`cost_max`, whatever the user's own costs and whether there is one:
/// 2^c for that, and 2^c + 2^(c+1) + … + 2^(`cost_max`-1) for nothing.
fn verify(password: &str, hash: Option<&str>, cost_max: u32) -> bool {
    let own = hash.and_then(cost);
    let right = hash.is_some_and(|hash| bcrypt::verify(password, hash).unwrap_or(false));
    let idle = match own {
        Some(cost) => cost..cost_max,
        None => cost_max..cost_max + 1,
    };
    for cost in idle {
        let _ = bcrypt::hash_with_salt(password, cost, [0; 16]);
    }
    right
}

/// The cost of a bcrypt hash; nothing if it is none.
pub(super) fn cost(hash: &str) -> Option<u32> {
    let parts: bcrypt::HashParts = hash.parse().ok()?;
    Some(parts.get_cost())
}

fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn unknown_users_cost_what_known_ones_do() {
        let users = BTreeMap::from([
            ("ann".to_owned(), bcrypt::hash("x", 4).unwrap()),
            ("bob".to_owned(), bcrypt::hash("x", 8).unwrap()),
        ]);
        let took = |user: &str| {
            let hash = users.get(user).map(String::as_str);
            let attempt = || {
                let begun = Instant::now();
                assert!(!verify("wrong", hash, 8));
                begun.elapsed()
            };
            (0..5).map(|_| attempt()).min().unwrap()
        };
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(took);
        // A cost of 4 would take a sixteenth.
        for other in [ann, eve] {
            assert!(
                other < bob * 3 && bob < other * 3,
                "{ann:?} {bob:?} {eve:?}"
            );
        }
    }

    #[test]
    fn guessers_hold_up_others_by_one_attempt() {
        let users = BTreeMap::from([("ann".to_owned(), bcrypt::hash("right", 8).unwrap())]);
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let passwords = Arc::new(Passwords::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
            let mut guesses = tokio::task::JoinSet::new();
            for guess in 0..60 {
                let (passwords, users) = (passwords.clone(), users.clone());
                let guess = basic(&format!("ann:{guess}"));
                guesses.spawn(async move {
                    passwords
                        .admit(&users, Some(&guess), elsewhere, || {})
                        .await
                });
            }
            tokio::task::yield_now().await;
            let right = basic("ann:right");
            let admitted = passwords.admit(&users, Some(&right), HERE, || {});
            let admitted = tokio::time::timeout(Duration::from_secs(60), admitted).await;
            assert!(admitted.unwrap());
            let mut done = 0;
            while guesses.try_join_next().is_some() {
                done += 1;
            }
            assert!(done <= 2, "{done} guesses came first");
        });
    }

    #[test]
    fn who_is_admitted() {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let users = BTreeMap::from([
            ("ann".to_owned(), hash("a:b c")),
            ("bob".to_owned(), hash("")),
        ]);
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let passwords = Passwords::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for (authorization, expected) in [
            (None, false),
            (Some(basic("ann:a:b c")), true),
            (Some(basic("ann:a:b c")), true),
            (Some(basic("ann:a:b")), false),
            (Some(basic("ann:\0")), false),
            (Some(basic("bob:")), true),
            (Some(basic("eve:a:b c")), false),
            (Some(basic("ann")), false),
            (Some(basic("ann:a:b c").to_uppercase()), false),
            (Some(basic("ann:a:b c").replace("Basic", "bAsIc")), true),
            (Some("Basic !".to_owned()), false),
            (Some("Bearer x".to_owned()), false),
            (Some(String::new()), false),
        ] {
            let authorization = authorization.as_deref();
            let admitted = passwords.admit(&users, authorization, HERE, || {});
            assert_eq!(runtime.block_on(admitted), expected, "{authorization:?}");
        }
        // A new hash counts at once, whatever is cached.
        let changed = BTreeMap::from([("ann".to_owned(), hash("other"))]);
        let old = basic("ann:a:b c");
        assert!(!runtime.block_on(passwords.admit(&changed, Some(&old), HERE, || {})));
        // What was right before waits for nothing.
        let admitted = passwords.admit(&users, Some(&old), HERE, || panic!("it waits"));
        assert!(runtime.block_on(admitted));
    }
}
