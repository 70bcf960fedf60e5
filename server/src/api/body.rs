//! A request's body: JSON, bounded, each error naming its field.

use axum::extract::{FromRequest, Request};
use axum::http::header;
use bowline_protocol::{Code, Failure};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use crate::deadline::Deadline;

const BODY_BYTES: usize = 64 * 1024;

/// The body of a request. Fields that are not known are ignored.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Refusal> {
        let deadline = *request.extensions().get::<Deadline>().ok_or(Code::Internal)?;
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::not_json());
        }
        let body = std::mem::take(request.body_mut());
        let read = tokio::time::timeout_at(deadline.instant().into(), Limited::new(body, BODY_BYTES).collect());
        match read.await {
            Err(_) => Err(Code::DeadlineExceeded.into()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(Failure::too_large("body", BODY_BYTES as u64).into())
            }
            Ok(Err(_)) => Err(Code::Malformed.into()),
            Ok(Ok(body)) => Ok(Self(parse(&body.to_bytes())?)),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    let whole = parsed.and_then(|value| reader.end().map(|()| value).map_err(|error| (String::new(), error)));
    whole.map_err(|(path, error)| {
        let message = error.to_string();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = missing.map(str::to_owned).or(Some(path).filter(|path| error.is_data() && path != "."));
        let code = if error.is_data() { Code::Invalid } else { Code::Malformed };
        Failure { field, message: Some(message), ..Failure::new(code) }
    })
}
