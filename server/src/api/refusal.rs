//! A failure as an HTTP answer.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bowline_protocol::{Code, Failure, wire};

/// `{"error": {code, name, message, field, limit, retry_after_ms}}` under the catalogue's status, or a status of HTTP's own
/// where that says more.
#[derive(Debug)]
pub(super) struct Refusal {
    failure: Failure,
    status: Option<StatusCode>,
}

#[derive(serde::Serialize)]
struct Body {
    error: wire::Error,
}

impl Refusal {
    pub(super) fn method_not_allowed() -> Self {
        let message = Some("not with this method; see the Allow header".to_owned());
        let failure = Failure { message, ..Failure::new(Code::UnknownCommand) };
        Self { failure, status: Some(StatusCode::METHOD_NOT_ALLOWED) }
    }

    pub(super) fn not_json() -> Self {
        let failure = Failure::invalid("content-type", "must be application/json");
        Self { failure, status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE) }
    }

    pub(super) fn no_upgrade(field: &str, message: &str) -> Self {
        Self { failure: Failure::invalid(field, message), status: Some(StatusCode::UPGRADE_REQUIRED) }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, status: None }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Failure::from(code).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { failure, status } = self;
        let of_catalogue = || StatusCode::from_u16(failure.code.http_status()).ok();
        let status = status.or_else(of_catalogue).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(Body { error: failure.to_wire() })).into_response();
        let headers = response.headers_mut();
        if let Some(ms) = failure.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        match status {
            StatusCode::UNAUTHORIZED if failure.code != Code::BadCredentials => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}
