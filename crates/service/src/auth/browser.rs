//! What keeps web pages out of a service that accepts every program of this machine: a page that has its own name
//! resolve to this machine (DNS rebinding) sends that name as `Host`, and one that posts here from elsewhere sends where
//! it is from as `Origin`. Programs that aren't browsers send neither another host nor an origin.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method};

use super::denied;
use crate::ApiError;

/// # Errors
/// `AccessDeniedException` for a host that isn't this machine, and for another origin where state may change.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    if let Some(host) = host.filter(|host| !is_loopback(host)) {
        let message = format!("The request is for `{host}`, which isn't this machine: call it 127.0.0.1 or localhost.");
        return Err(denied("AccessDeniedException", message));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    for origin in headers.get_all(ORIGIN).iter().filter(|_| !reads) {
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.split_once("://").map(|(_, origin_host)| Some(origin_host) == host);
        if own != Some(true) {
            let message = format!("A page of `{origin}` may not change what is on this machine.");
            return Err(denied("AccessDeniedException", message));
        }
    }
    Ok(())
}

/// `localhost`, a name below it, or a loopback address; with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: Method, pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        check(&method, &headers).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:8080", "127.9.9.9", "localhost:1", "LocalHost", "s3.localhost:1", "[::1]:8080"] {
            assert!(checked(Method::GET, &[("host", host)]), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]:1", "", "notlocalhost"] {
            assert!(!checked(Method::GET, &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn another_origin_changes_nothing() {
        let host = ("host", "127.0.0.1:8080");
        let from = |method, origin| checked(method, &[host, ("origin", origin)]);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert!(checked(method.clone(), &[host]));
            assert!(from(method.clone(), "http://127.0.0.1:8080"));
            for origin in ["http://evil.example", "null", "http://127.0.0.1:9", "http://127.0.0.1:8080.evil.example"] {
                assert!(!from(method.clone(), origin), "{method} {origin}");
            }
        }
        assert!(from(Method::GET, "http://evil.example"), "without CORS headers no page can read the answer");
        let two = [host, ("origin", "http://127.0.0.1:8080"), ("origin", "http://evil.example")];
        assert!(!checked(Method::POST, &two));
    }
}
