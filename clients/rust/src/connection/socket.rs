//! The WebSocket itself: dialling, and reading and writing at the same time without a second task.

use std::pin::Pin;
use std::task::{Context, Poll};

use bowline_protocol::Codec;
use bowline_protocol::code::Retry;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::Error;
use crate::accounts::refusal_in;
use crate::event::Why;

/// What a server may send in one message; its own frames are far smaller.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The most that waits for the network here; one message is written at a time.
const WRITE_BUFFER_BYTES: usize = 1024 * 1024;

/// Where the server is, taken apart once.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    url: String,
    authority: String,
}

impl Address {
    /// `http://`, `ws://`, with the port where it is not 80.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let authority = rest.trim_end_matches('/');
        if !matches!(scheme, "http" | "ws") || authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(wrong());
        }
        let bare = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let port = if bare.contains(':') { "" } else { ":80" };
        Ok(Self { url: format!("ws://{authority}/v1/connect"), authority: format!("{authority}{port}") })
    }
}

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    codec: Codec,
    writing: bool,
}

/// What [`Socket::turn`] came back with.
pub(crate) enum Turn {
    Message(Bytes),
    /// The peer is there; nothing for us.
    Sign,
    /// The last message has gone out.
    Written,
}

impl Socket {
    pub(crate) async fn dial(address: &Address, codec: Codec) -> Result<Self, Why> {
        let tcp = TcpStream::connect(&address.authority).await.map_err(|e| Why::Network(e.to_string()))?;
        tcp.set_nodelay(true).map_err(|e| Why::Network(e.to_string()))?;
        let mut request = address.url.as_str().into_client_request().map_err(why)?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(codec.subprotocol()));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let (stream, _) = client_async_with_config(request, tcp, Some(config)).await.map_err(why)?;
        Ok(Self { stream, codec, writing: false })
    }

    /// A message is still on its way out: none may be started.
    pub(crate) fn writing(&self) -> bool {
        self.writing
    }

    /// Starts to write a message; [`Socket::turn`] brings it out.
    pub(crate) fn start(&mut self, message: BytesMut) -> Result<(), Why> {
        let message = match self.codec {
            Codec::Proto => Message::Binary(message.freeze()),
            Codec::Json => {
                Message::Text(Utf8Bytes::try_from(message.freeze()).map_err(|e| Why::Protocol(e.to_string()))?)
            }
        };
        self.writing = true;
        Pin::new(&mut self.stream).start_send(message).map_err(why)
    }

    /// Writes what waits and, with `read`, takes the next message. May be dropped at any time without loss.
    pub(crate) async fn turn(&mut self, read: bool) -> Result<Turn, Why> {
        std::future::poll_fn(|cx| self.poll_turn(read, cx)).await
    }

    /// Ends the connection as a broken network does: no close frame, and what is under way is lost.
    pub(crate) fn cut(self) {
        // Without it the peer would see an orderly end; failing to set it changes nothing that the caller relies on.
        let _ = self.stream.get_ref().set_zero_linger();
    }

    /// Ends the connection properly, as far as the peer takes part.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }

    fn poll_turn(&mut self, read: bool, cx: &mut Context<'_>) -> Poll<Result<Turn, Why>> {
        if self.writing
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.writing = false;
            return Poll::Ready(flushed.map(|()| Turn::Written).map_err(why));
        }
        if !read {
            return Poll::Pending;
        }
        let message = match std::task::ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            None => return Poll::Ready(Err(Why::Network("the connection ended".into()))),
            Some(Err(error)) => return Poll::Ready(Err(why(error))),
            Some(Ok(message)) => message,
        };
        Poll::Ready(match message {
            Message::Binary(bytes) => Ok(Turn::Message(bytes)),
            Message::Text(text) => Ok(Turn::Message(text.into())),
            Message::Close(None) => Err(Why::Closed { code: 1005, reason: String::new() }),
            Message::Close(Some(frame)) => {
                Err(Why::Closed { code: frame.code.into(), reason: frame.reason.as_str().to_owned() })
            }
            _ => Ok(Turn::Sign),
        })
    }
}

fn why(error: WsError) -> Why {
    match error {
        WsError::Http(response) => {
            let status = response.status().as_u16();
            let body = response.body().as_deref().unwrap_or_default();
            // Only what passes by itself: everything else keeps its status, whoever answered.
            match refusal_in(body).filter(|failure| failure.code.retry() == Retry::Later) {
                Some(failure) => Why::Refused(failure),
                None => Why::Http(status),
            }
        }
        WsError::Io(error) => Why::Network(error.to_string()),
        WsError::ConnectionClosed | WsError::AlreadyClosed => Why::Network("the connection ended".into()),
        // Cut in the middle of a frame or of the handshake; a network fault, not a peer that does not know the protocol.
        WsError::Protocol(error) if error.to_string().contains("closing handshake") => Why::Network(error.to_string()),
        other => Why::Protocol(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, ws, authority) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/connect", "127.0.0.1:8080"),
            ("ws://h/", "ws://h/v1/connect", "h:80"),
            ("http://[::1]", "ws://[::1]/v1/connect", "[::1]:80"),
            ("http://[::1]:90", "ws://[::1]:90/v1/connect", "[::1]:90"),
        ] {
            let address = Address::parse(url).expect(url);
            assert_eq!((address.url.as_str(), address.authority.as_str()), (ws, authority));
        }
        for url in ["", "h:1", "ftp://h", "http://", "http://h/path", "https://h", "http://u:p@h"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
