//! Who asks, by when, and from where.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use bowline_protocol::{Code, Failure};

use super::Api;
use super::refusal::Refusal;
use crate::accounts::Identity;
use crate::deadline::Deadline;

/// The other end of the TCP connection.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The address of the client, as the proxies in front of the server tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) IpAddr);

/// What one client has to himself: an IPv4 address, or an IPv6 /64, of which anybody gets a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

/// The bearer of a valid access token whose session was not revoked.
pub(super) struct Bearer(pub(super) Identity);

/// Puts the deadline and the client's address on a request.
pub(super) async fn arrive(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let config = &api.inner.config;
    let deadline = Deadline::after(std::time::Duration::from_millis(config.request_timeout_ms));
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip());
    let address = forwarded(request.headers(), config.forwarded_hops).unwrap_or(peer);
    request.extensions_mut().insert(deadline);
    request.extensions_mut().insert(Address(address.to_canonical()));
    next.run(request).await
}

/// Each proxy adds the address that it sees at the end; what stands before the last `hops` may be anybody's invention.
fn forwarded(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|line| line.to_str().ok());
    let addresses: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
    addresses.get(addresses.len().checked_sub(hops.max(1))?).filter(|_| hops > 0)?.trim().parse().ok()
}

/// The token of an Authorization header, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Failure {
            field: Some("authorization".to_owned()),
            message: Some("must be `Bearer` and an access token".to_owned()),
            ..Failure::new(Code::Unauthenticated)
        }),
    }
}

impl From<Address> for Network {
    fn from(Address(address): Address) -> Self {
        Self(match address {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
            IpAddr::V4(_) => address,
        })
    }
}

impl FromRequestParts<Api> for Bearer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let deadline = *parts.extensions.get::<Deadline>().ok_or(Code::Internal)?;
        let token = bearer(&parts.headers)?.ok_or(Code::Unauthenticated)?;
        let identity = api.inner.accounts.verify(token)?;
        api.inner.accounts.admit_request(&identity, deadline).await?;
        Ok(Self(identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_what_the_nearest_trusted_proxies_say() {
        let check = |lines: &[&str], hops: usize, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            assert_eq!(forwarded(&headers, hops), expected.map(|e| e.parse().unwrap()), "{lines:?}, {hops} hops");
        };
        check(&["192.0.2.1"], 0, None);
        check(&["192.0.2.1"], 1, Some("192.0.2.1"));
        check(&["198.51.100.9, 192.0.2.1"], 1, Some("192.0.2.1"));
        check(&["198.51.100.9, 192.0.2.1", "10.0.0.1"], 2, Some("192.0.2.1"));
        check(&["2001:db8::1"], 1, Some("2001:db8::1"));
        check(&["192.0.2.1"], 2, None);
        check(&["nonsense"], 1, None);
        check(&[], 1, None);
    }

    #[test]
    fn one_ipv6_client_is_one_network() {
        let network = |text: &str| Network::from(Address(text.parse().unwrap()));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
