//! Basic authentication against bcrypt hashes.
//!
//! Bcrypt is slow on purpose, so passwords that were right are remembered, one password is tried at a time, and an
//! unknown user costs what a known one does.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Semaphore;

/// Passwords that were right before they are forgotten and tried anew.
const REMEMBERED_MAX: usize = 100;

pub(super) struct Passwords {
    /// User, hash and password. The hash is part of it, so that a changed one counts at once. Wrong passwords are not
    /// kept: whoever guesses shall neither fill the table nor be answered fast.
    right: Mutex<HashSet<(String, String, String)>>,
    turn: Semaphore,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            right: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// Whether an `Authorization` header names a user and the right password.
    pub(super) async fn admit(
        &self,
        users: &BTreeMap<String, String>,
        authorization: Option<&str>,
    ) -> bool {
        let Some((user, password)) = authorization.and_then(credentials) else {
            return false;
        };
        // For an unknown user some known user's hash is tried and the outcome thrown away.
        let known = users.get(&user);
        let Some(hash) = known.or_else(|| users.values().next()) else {
            return false;
        };
        let entry = (user, hash.clone(), password);
        if known.is_some() && self.right().contains(&entry) {
            return true;
        }
        let Ok(_turn) = self.turn.acquire().await else {
            return false;
        };
        let (hash, password) = (entry.1.clone(), entry.2.clone());
        let right = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash))
            .await
            .is_ok_and(|verified| verified.unwrap_or(false));
        if !right || known.is_none() {
            return false;
        }
        let mut remembered = self.right();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(entry);
        true
    }

    fn right(&self) -> MutexGuard<'_, HashSet<(String, String, String)>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    use super::*;

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
            let admitted = runtime.block_on(passwords.admit(&users, authorization.as_deref()));
            assert_eq!(admitted, expected, "{authorization:?}");
        }
        // A new hash counts at once, whatever is remembered.
        let changed = BTreeMap::from([("ann".to_owned(), hash("other"))]);
        let old = basic("ann:a:b c");
        assert!(!runtime.block_on(passwords.admit(&changed, Some(&old))));
    }
}
