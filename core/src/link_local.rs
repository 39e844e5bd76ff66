//! Addresses where no endpoint is: those of the own link. There clouds give a machine's credentials to whoever asks, and
//! who may name an endpoint must not reach them through the machine that a run is on.

use std::net::{IpAddr, Ipv6Addr};

/// Where EC2 serves a machine's credentials over IPv6: no address of the link, but of each machine's own.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether an address is on the own link, or leads there.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address == EC2_METADATA
                || address.to_ipv4().is_some_and(|mapped| mapped.is_link_local())
        }
    }
}

/// The address that a URL's host is itself, in brackets where it is one of IPv6; `None`: it is a name, or nothing.
pub fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_the_link_are_told_from_others() {
        for inside in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::a9fe:a9fe",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
        ] {
            assert!(is_link_local(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["127.0.0.1", "10.0.0.1", "169.253.255.255", "169.255.0.0", "::1", "fec0::1", "fd00:ec2::253"] {
            assert!(!is_link_local(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn a_host_is_an_address_only_as_urls_write_one() {
        assert_eq!(literal("169.254.169.254"), Some("169.254.169.254".parse().unwrap()));
        assert_eq!(literal("[fe80::1]"), Some("fe80::1".parse().unwrap()));
        for name in ["fe80::1", "[169.254.169.254]", "[fe80::1", "metadata.google.internal", "0xa9fea9fe", ""] {
            assert_eq!(literal(name), None, "{name}");
        }
    }
}
