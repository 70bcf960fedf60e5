//! From bytes to messages. Pure: the same bytes give the same messages however they are cut.

use bowline_protocol::Close;

use super::frame::{FrameKind, Head, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, close_code};
use super::mask::unmask;
use super::utf8::Utf8;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Message { text: bool, payload: &'a [u8] },
    Ping(&'a [u8]),
    Pong,
    Close(Option<u16>),
}

/// What is kept of a client's bytes between two reads: nothing, unless a frame or message is not whole.
#[derive(Debug, Default)]
pub(super) struct Input(Option<Box<Partial>>);

#[derive(Debug, Default)]
struct Partial {
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: u8,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
    /// The message or control frame was handed out and goes before anything else is read.
    spent: Option<Spent>,
}

/// A frame whose payload is not whole.
#[derive(Debug)]
struct Frame {
    head: Head,
    left: u64,
    phase: usize,
}

#[derive(Debug)]
struct Message {
    text: bool,
    fragments: usize,
    utf8: Utf8,
    data: Vec<u8>,
}

/// Fragments of one message beside one for each of its bytes: empty ones would go on without end.
const MAX_FRAGMENTS: usize = 64;

#[derive(Debug)]
enum Spent {
    Message,
    Control,
}

impl Input {
    /// The next event of `bytes`, from `at` on, which moves behind what was used; `None` when they are used up. A message
    /// longer than `limit` is refused as soon as a header tells.
    pub(super) fn next<'a>(
        &'a mut self,
        bytes: &'a mut [u8],
        at: &mut usize,
        limit: usize,
    ) -> Result<Option<Event<'a>>, Close> {
        self.forget_spent();
        if self.0.is_none() {
            match whole(&bytes[*at..], limit)? {
                Whole::Frame(head, header_bytes) => {
                    let start = *at + header_bytes;
                    *at = start + head.payload_bytes as usize;
                    let payload = &mut bytes[start..*at];
                    unmask(payload, head.mask, 0);
                    return event(head.kind, payload).map(Some);
                }
                Whole::No if *at == bytes.len() => return Ok(None),
                Whole::No => {}
            }
        }
        let partial = self.0.get_or_insert_default();
        while *at < bytes.len() {
            partial.spent = partial.take(bytes, at, limit)?;
            if partial.spent.is_some() {
                break;
            }
        }
        match (&partial.spent, &partial.message, &partial.frame) {
            (Some(Spent::Message), Some(message), _) => {
                Ok(Some(Event::Message { text: message.text, payload: &message.data }))
            }
            (Some(Spent::Control), _, Some(frame)) => event(frame.head.kind, &partial.control).map(Some),
            _ => Ok(None),
        }
    }

    fn forget_spent(&mut self) {
        let Some(partial) = &mut self.0 else { return };
        match partial.spent.take() {
            None => return,
            Some(Spent::Message) => partial.message = None,
            Some(Spent::Control) => partial.control = Vec::new(),
        }
        partial.frame = None;
        if partial.message.is_none() {
            self.0 = None;
        }
    }
}

impl Partial {
    /// Takes a header or a piece of payload; says when something is whole.
    fn take(&mut self, bytes: &mut [u8], at: &mut usize, limit: usize) -> Result<Option<Spent>, Close> {
        if self.frame.is_none() {
            let Some(head) = self.take_header(bytes, at)? else { return Ok(None) };
            self.begin(head, limit)?;
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let n = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len() - *at);
        let piece = &mut bytes[*at..*at + n];
        *at += n;
        frame.phase = unmask(piece, frame.head.mask, frame.phase);
        frame.left -= n as u64;
        let Head { kind, is_final, .. } = frame.head;
        let ended = frame.left == 0;
        if kind.is_control() {
            self.control.extend_from_slice(piece);
            return Ok(ended.then_some(Spent::Control));
        }
        let Some(message) = &mut self.message else { return Err(Close::Protocol) };
        if message.text && !message.utf8.push(piece) {
            return Err(Close::NotUtf8);
        }
        message.data.extend_from_slice(piece);
        match (ended, is_final) {
            (true, true) if message.text && !message.utf8.is_whole() => Err(Close::NotUtf8),
            (true, true) => Ok(Some(Spent::Message)),
            (true, false) => {
                self.frame = None;
                Ok(None)
            }
            (false, _) => Ok(None),
        }
    }

    fn take_header(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Head>, Close> {
        let kept = usize::from(self.header_bytes);
        let n = (MAX_HEADER_BYTES - kept).min(bytes.len() - *at);
        self.header[kept..kept + n].copy_from_slice(&bytes[*at..*at + n]);
        match Head::parse(&self.header[..kept + n])? {
            Some((head, header_bytes)) => {
                *at += header_bytes - kept;
                self.header_bytes = 0;
                Ok(Some(head))
            }
            None => {
                *at += n;
                self.header_bytes += n as u8;
                Ok(None)
            }
        }
    }

    /// A frame begins: it must fit to what came before, and into the limit.
    fn begin(&mut self, head: Head, limit: usize) -> Result<(), Close> {
        if let Some(message) = self.message.as_mut().filter(|_| !head.kind.is_control()) {
            message.fragments += 1;
            if message.fragments > MAX_FRAGMENTS + message.data.len() {
                return Err(Close::TooBig);
            }
        }
        let starts = matches!(head.kind, FrameKind::Text | FrameKind::Binary);
        if starts == self.message.is_some() && !head.kind.is_control() {
            return Err(Close::Protocol);
        }
        if starts {
            let text = head.kind == FrameKind::Text;
            self.message = Some(Message { text, fragments: 1, utf8: Utf8::default(), data: Vec::new() });
        }
        if !head.kind.is_control() {
            let before = self.message.as_ref().map_or(0, |message| message.data.len());
            if head.payload_bytes > (limit - before.min(limit)) as u64 {
                return Err(Close::TooBig);
            }
        }
        self.frame = Some(Frame { head, left: head.payload_bytes, phase: 0 });
        Ok(())
    }
}

enum Whole {
    Frame(Head, usize),
    No,
}

/// A frame that is a message or control frame by itself, and all here: it needs no copy.
fn whole(bytes: &[u8], limit: usize) -> Result<Whole, Close> {
    let Some((head, header_bytes)) = Head::parse(bytes)? else { return Ok(Whole::No) };
    match head.kind {
        FrameKind::Continuation => return Err(Close::Protocol),
        kind if !kind.is_control() && head.payload_bytes > limit as u64 => return Err(Close::TooBig),
        _ => {}
    }
    let here = head.payload_bytes <= (bytes.len() - header_bytes) as u64;
    Ok(if here && head.is_final { Whole::Frame(head, header_bytes) } else { Whole::No })
}

fn event(kind: FrameKind, payload: &[u8]) -> Result<Event<'_>, Close> {
    debug_assert!(!kind.is_control() || payload.len() <= MAX_CONTROL_BYTES);
    Ok(match kind {
        FrameKind::Text if std::str::from_utf8(payload).is_err() => return Err(Close::NotUtf8),
        FrameKind::Text => Event::Message { text: true, payload },
        FrameKind::Binary | FrameKind::Continuation => Event::Message { text: false, payload },
        FrameKind::Close => Event::Close(close_code(payload)?),
        FrameKind::Ping => Event::Ping(payload),
        FrameKind::Pong => Event::Pong,
    })
}

#[cfg(test)]
mod tests;
