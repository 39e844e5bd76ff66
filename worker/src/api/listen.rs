//! Where the API may listen.

use std::net::IpAddr;

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the API does not listen on {0} without tokens: whoever reaches it could spend what the account holds; name a token \
     file, or listen on 127.0.0.1"
)]
pub struct ListenError(IpAddr);

/// Without tokens, only this machine itself may be listened to.
///
/// # Errors
/// Names the address.
pub fn may_listen(address: IpAddr, has_tokens: bool) -> Result<(), ListenError> {
    let address = address.to_canonical();
    if has_tokens || address.is_loopback() { Ok(()) } else { Err(ListenError(address)) }
}

/// Whether a Host header names this machine as it names itself: a page elsewhere whose name was made to lead here sends
/// its own.
pub(crate) fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_tokens_only_loopback() {
        for own in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(may_listen(own.parse().unwrap(), false), Ok(()));
        }
        for other in ["0.0.0.0", "::", "10.0.0.1", "192.168.0.1", "::ffff:10.0.0.1", "fe80::1", "8.8.8.8"] {
            assert!(may_listen(other.parse().unwrap(), false).is_err(), "{other}");
            assert_eq!(may_listen(other.parse().unwrap(), true), Ok(()));
        }
    }

    #[test]
    fn names_of_this_machine() {
        for own in ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80", "LOCALHOST:1"] {
            assert!(is_own_name(own), "{own}");
        }
        for other in
            ["", ":80", "example.com", "localhost.example.com", "127.0.0.1.nip.io:80", "10.0.0.1", "[::]:1", "["]
        {
            assert!(!is_own_name(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_host_panics(host in ".{0,60}") {
            let _ = is_own_name(&host);
        }

        #[test]
        fn only_loopback_is_listened_to_without_tokens(address: IpAddr) {
            prop_assert_eq!(may_listen(address, false).is_ok(), address.to_canonical().is_loopback());
        }
    }
}
