//! Who may see the console. Where the service has no credentials, whoever uses a browser on this machine, as far as the
//! request comes from the console itself. Where it has, who signed in with one of its bearer tokens: the browser then
//! keeps a cookie that no script reads and no other site's request carries. A cookie is a time and a MAC over it, under
//! a key that ends with the process: nothing is stored, and a restart signs everybody out.

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ApiError;
use crate::auth;
use crate::store::now;

const NAME: &str = "outcrop_console";
/// How long one is signed in.
const LASTS: i64 = 12 * 3600;

/// The key of this process.
pub(crate) struct SessionKey([u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SessionKey")
    }
}

impl SessionKey {
    /// A new one. Errors: the system has no random bytes.
    pub(crate) fn new() -> Result<Self, ApiError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(ApiError::internal)?;
        Ok(Self(key))
    }

    fn mac(&self, text: &str) -> Result<Hmac<Sha256>, ApiError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(ApiError::internal)?;
        mac.update(text.as_bytes());
        Ok(mac)
    }

    /// `Set-Cookie` of somebody who signed in just now.
    pub(super) fn cookie(&self) -> Result<String, ApiError> {
        let end = (now() / 1000 + LASTS).to_string();
        let mac = auth::hex(&self.mac(&end)?.finalize().into_bytes());
        Ok(format!("{NAME}={end}.{mac}; Path=/console; HttpOnly; SameSite=Strict; Max-Age={LASTS}"))
    }

    /// Whether a request has a cookie of this process that is still good.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        cookies(headers).any(|cookie| self.is_good(cookie).unwrap_or(false))
    }

    fn is_good(&self, cookie: &str) -> Option<bool> {
        let (end, mac) = cookie.split_once('.')?;
        let mac = bytes(mac)?;
        let is_ours = self.mac(end).ok()?.verify_slice(&mac).is_ok();
        Some(is_ours && end.parse::<i64>().ok()? > now() / 1000)
    }
}

/// `Set-Cookie` that takes the cookie away.
pub(super) fn no_cookie() -> String {
    format!("{NAME}=; Path=/console; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// The values of the console's cookies.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lists.flat_map(|list| list.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == NAME).map(|(_, value)| value)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// What changes something comes from a page of this very address. A program sends no such headers.
///
/// # Errors
/// `AccessDeniedException` for anything else.
pub(super) fn own_page(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if *method == Method::GET {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let foreign_site = text("sec-fetch-site").is_some_and(|site| site != "same-origin");
    let host = text(HOST.as_str());
    let foreign_origin = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").map(|(_, own)| Some(own) == host) != Some(true)
    });
    if foreign_site || foreign_origin {
        return Err(auth::denied("AccessDeniedException", "This form was not sent by the console's own page."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn a_cookie_is_good_for_its_own_process_and_time() {
        let (own, other) = (SessionKey::new().unwrap(), SessionKey::new().unwrap());
        let set = own.cookie().unwrap();
        assert!(set.contains("; HttpOnly; SameSite=Strict;") && set.contains("; Path=/console;"), "{set}");
        let cookie = set.split(';').next().unwrap();
        assert!(own.admits(&with(cookie)) && own.admits(&with(&format!("a=b; {cookie}"))));
        assert!(!other.admits(&with(cookie)) && !own.admits(&HeaderMap::new()));
        let (end, mac) = cookie.split_once('=').unwrap().1.split_once('.').unwrap();
        let later = end.parse::<i64>().unwrap() + 1;
        for forged in
            [format!("{later}.{mac}"), format!("{end}."), format!("{end}.{}", &mac[2..]), end.into(), "é.é".into()]
        {
            let forged = format!("{NAME}={forged}");
            assert!(
                !HeaderMap::try_from(&std::collections::HashMap::from([("cookie".to_string(), forged.clone())]))
                    .is_ok_and(|headers| own.admits(&headers)),
                "{forged}"
            );
        }
        let past = (now() / 1000 - 1).to_string();
        let mac = auth::hex(&own.mac(&past).unwrap().finalize().into_bytes());
        assert!(!own.admits(&with(&format!("{NAME}={past}.{mac}"))), "it has ended");
    }

    #[test]
    fn only_the_consoles_own_page_changes_anything() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("host", "127.0.0.1:8420")].iter().chain(pairs) {
                headers.append(*name, value.parse().unwrap());
            }
            own_page(&Method::POST, &headers).is_ok()
        };
        assert!(check(&[]) && check(&[("origin", "http://127.0.0.1:8420"), ("sec-fetch-site", "same-origin")]));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:9", "http://localhost:8420", ""] {
            assert!(!check(&[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!check(&[("sec-fetch-site", site)]), "{site}");
        }
    }
}
