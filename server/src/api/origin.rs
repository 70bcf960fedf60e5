//! Which web pages may use this server: the check at the WebSocket's handshake, and CORS for the rest.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("3600");

pub(super) enum Origins {
    Any,
    Listed(Vec<String>),
}

impl Origins {
    pub(super) fn new(listed: &[String]) -> Self {
        let trimmed = |origin: &String| origin.trim_end_matches('/').to_ascii_lowercase();
        if listed.is_empty() { Self::Any } else { Self::Listed(listed.iter().map(trimmed).collect()) }
    }

    /// What is no web page has no origin and passes; a page that this server's own host served passes too.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let (Some(origin), Self::Listed(listed)) = (headers.get(header::ORIGIN), self) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        let origin = origin.to_ascii_lowercase();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let own = host.is_some_and(|host| {
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        });
        own || listed.contains(&origin)
    }
}

/// Answers preflights, and lets the pages of allowed origins read the answers.
pub(super) async fn cors(State(api): State<Api>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let Some(origin) = origin.filter(|_| api.inner.origins.allow(request.headers())) else {
        return next.run(request).await;
    };
    let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let preflight = request.method() == Method::OPTIONS && asks;
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_origins_and_our_own_pages_pass() {
        let listed = Origins::new(&["https://App.example/".to_owned()]);
        let check = |origins: &Origins, origin: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("chat.example:8080"))]);
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(origins.allow(&headers), expected, "{origin:?}");
        };
        check(&listed, None, true);
        check(&listed, Some("https://app.example"), true);
        check(&listed, Some("http://chat.example:8080"), true);
        check(&listed, Some("https://chat.example"), false);
        check(&listed, Some("https://evil.example"), false);
        check(&listed, Some("https://app.example.evil.example"), false);
        check(&listed, Some("null"), false);
        check(&Origins::new(&[]), Some("https://anything.example"), true);
    }
}
