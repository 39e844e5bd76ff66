//! Keeps connections off the own link. Which addresses are there, [`nearbench_core::link_local`] says.
//!
//! Literal addresses are looked at when an endpoint is made, names each time they are resolved, so that a name cannot come
//! to mean another address in between.

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use nearbench_core::link_local::{is_link_local, literal};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
    vec,
};
use tower_service::Service;

/// Why an endpoint is not connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is at {address}, a link-local address, where clouds serve the credentials of their machines: nearbench never \
     connects there; name the endpoint by an address that is reached through a router"
)]
pub struct LinkLocal {
    /// As the URL names it.
    host: String,
    address: IpAddr,
}

/// Refuses a host that is such an address itself.
///
/// # Errors
/// When it is one. A name is no error: it is looked at when it is resolved.
pub(crate) fn check(host: &str) -> Result<(), LinkLocal> {
    match literal(host).filter(|address| is_link_local(*address)) {
        Some(address) => Err(LinkLocal { host: host.to_owned(), address }),
        None => Ok(()),
    }
}

/// A resolver that refuses names of such addresses.
#[derive(Clone)]
pub(crate) struct BeyondLink<R>(pub(crate) R);

impl<R> Service<Name> for BeyondLink<R>
where
    R: Service<Name, Response: Iterator<Item = SocketAddr>, Error: Into<Box<dyn Error + Send + Sync>>>,
    R::Future: Send + 'static,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.to_string();
        let resolved = self.0.call(name);
        Box::pin(async move {
            let addresses: Vec<_> = resolved.await.map_err(Into::into)?.collect();
            match addresses.iter().map(SocketAddr::ip).find(|address| is_link_local(*address)) {
                Some(address) => Err(LinkLocal { host, address }.into()),
                None => Ok(addresses.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{convert::Infallible, future::ready};

    #[test]
    fn a_literal_address_is_named_and_a_name_is_none() {
        let error = check("[fd00:ec2::254]").unwrap_err().to_string();
        assert!(error.contains("[fd00:ec2::254]") && error.contains("link-local"), "{error}");
        for elsewhere in ["metadata.google.internal", "127.0.0.1", "[::1]"] {
            assert_eq!(check(elsewhere), Ok(()));
        }
    }

    /// Knows every name.
    struct Fixed(Vec<&'static str>);

    impl Service<Name> for Fixed {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let addresses: Vec<_> = self.0.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            ready(Ok(addresses.into_iter()))
        }
    }

    #[tokio::test]
    async fn a_name_with_one_such_address_is_refused_whatever_else_it_has() {
        let resolve = |addresses| BeyondLink(Fixed(addresses)).call("rpc.example".parse().unwrap());
        assert_eq!(resolve(vec!["10.0.0.1", "::1"]).await.unwrap().count(), 2);
        for inside in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            let error = resolve(vec!["10.0.0.1", inside]).await.unwrap_err().to_string();
            assert!(error.contains("rpc.example is at") && error.contains("link-local"), "{error}");
        }
    }
}
