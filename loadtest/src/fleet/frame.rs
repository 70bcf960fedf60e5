//! Reads a server's frames as far as a fleet needs them: deliveries without a copy, all others decoded. Pure.

use anyhow::{Context, bail, ensure};
use bowline_client::protocol::wire::entry::Content;
use bowline_client::protocol::wire::server_frame::Kind;
use bowline_client::protocol::{Codec, LogId, Seq, wire};

pub(crate) enum Frame<'a> {
    Entries { log: LogId, after_seq: Seq, to_seq: Seq, items: Items<'a> },
    Topic { topic: &'a str, seq: Seq, body: &'a [u8] },
    Other(Option<u64>, Kind),
}

/// The entries of one frame, read one by one.
pub(crate) enum Items<'a> {
    /// What is left of an `Entries` message.
    Encoded(Fields<'a>),
    Decoded(std::slice::Iter<'a, wire::Entry>),
}

pub(crate) struct Item<'a> {
    pub(crate) seq: Seq,
    /// Of a message that still has one.
    pub(crate) body: Option<&'a [u8]>,
}

/// Gives each frame of a server's message.
pub(crate) fn read(
    codec: Codec,
    message: &[u8],
    mut each: impl FnMut(Frame<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if codec == Codec::Json {
        return decoded(codec, message, &mut each);
    }
    let mut frames = Fields(message);
    loop {
        let whole = frames.0;
        let Some((tag, value)) = frames.next()? else { return Ok(()) };
        let (FRAME, Value::Bytes(frame)) = (tag, value) else { bail!("a message with field {tag}") };
        match frame.first() {
            Some(&ENTRIES_KEY) => each(entries(frame)?)?,
            Some(&TOPIC_MESSAGE_KEY) => each(topic_message(frame)?)?,
            _ => decoded(codec, &whole[..whole.len() - frames.0.len()], &mut each)?,
        }
    }
}

const FRAME: u32 = 1;
/// The fields of these two, length-delimited, are the only ones of their frames.
const ENTRIES_KEY: u8 = 2 << 3 | 2;
const TOPIC_MESSAGE_KEY: u8 = 6 << 3 | 2;

fn decoded(codec: Codec, message: &[u8], each: &mut impl FnMut(Frame<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for frame in codec.read_server(message)? {
        match frame.kind {
            Some(Kind::Entries(entries)) => {
                let log = LogId::from_wire(&entries.log_id).context("entries without a log")?;
                let items = Items::Decoded(entries.items.iter());
                each(Frame::Entries { log, after_seq: entries.after_seq, to_seq: entries.to_seq, items })?;
            }
            Some(Kind::TopicMessage(message)) => {
                each(Frame::Topic { topic: &message.topic, seq: message.seq, body: message.body.as_bytes() })?;
            }
            Some(kind) => each(Frame::Other(frame.id, kind))?,
            None => {}
        }
    }
    Ok(())
}

fn entries(frame: &[u8]) -> anyhow::Result<Frame<'_>> {
    let Some((_, Value::Bytes(entries))) = Fields(frame).next()? else { bail!("entries without content") };
    let (mut log, mut after_seq, mut to_seq) = (None, 0, 0);
    let mut fields = Fields(entries);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(id)) => log = LogId::from_wire(id),
            (2, Value::Int(seq)) => after_seq = seq,
            (3, Value::Int(seq)) => to_seq = seq,
            _ => {}
        }
    }
    let log = log.context("entries without a log")?;
    Ok(Frame::Entries { log, after_seq, to_seq, items: Items::Encoded(Fields(entries)) })
}

fn topic_message(frame: &[u8]) -> anyhow::Result<Frame<'_>> {
    let Some((_, Value::Bytes(message))) = Fields(frame).next()? else { bail!("a topic's message without content") };
    let (mut topic, mut seq, mut body) = ("", 0, &[][..]);
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(name)) => topic = std::str::from_utf8(name).context("a topic's name")?,
            (2, Value::Int(number)) => seq = number,
            (4, Value::Bytes(text)) => body = text,
            _ => {}
        }
    }
    Ok(Frame::Topic { topic, seq, body })
}

impl<'a> Items<'a> {
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Item<'a>>> {
        match self {
            Items::Encoded(fields) => {
                while let Some(field) = fields.next()? {
                    if let (4, Value::Bytes(entry)) = field {
                        return item(entry).map(Some);
                    }
                }
                Ok(None)
            }
            Items::Decoded(entries) => Ok(entries.next().map(|entry| {
                let body = match &entry.content {
                    Some(Content::Message(message)) => message.body.as_deref().map(str::as_bytes),
                    _ => None,
                };
                Item { seq: entry.seq, body }
            })),
        }
    }
}

fn item(entry: &[u8]) -> anyhow::Result<Item<'_>> {
    let mut item = Item { seq: 0, body: None };
    let mut fields = Fields(entry);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Int(seq)) => item.seq = seq,
            (16, Value::Bytes(message)) => {
                let mut fields = Fields(message);
                while let Some(field) = fields.next()? {
                    if let (1, Value::Bytes(body)) = field {
                        item.body = Some(body);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(item)
}

/// The fields of an encoded message.
pub(crate) struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width: no field that is read here.
    Fixed,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> anyhow::Result<Option<(u32, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Int(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            other => bail!("wire type {other}"),
        };
        Ok(Some(((key >> 3) as u32, value)))
    }

    fn varint(&mut self) -> anyhow::Result<u64> {
        let mut value = 0;
        for (n, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                self.0 = &self.0[n + 1..];
                return Ok(value);
            }
        }
        bail!("a number without an end")
    }

    fn bytes(&mut self, length: u64) -> anyhow::Result<&'a [u8]> {
        let fits = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        ensure!(fits.is_some(), "a field of {length} bytes where {} are left", self.0.len());
        let (bytes, rest) = self.0.split_at(fits.unwrap_or_default());
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_client::protocol::{ClientId, UserId};
    use bytes::BytesMut;

    fn entry(seq: Seq, content: Content) -> wire::Entry {
        let (client_id, sender_id) = (ClientId::new().to_wire(), UserId::new().to_wire());
        wire::Entry {
            seq,
            message_no: seq,
            created_at_ms: 1 << 40,
            client_id,
            sender_id,
            content: Some(content),
            ..Default::default()
        }
    }

    fn message(body: Option<&str>) -> Content {
        let reply_to_seq = Some(3);
        Content::Message(wire::Message { body: body.map(str::to_owned), reply_to_seq, ..Default::default() })
    }

    /// What a fleet takes of each frame, as text.
    fn taken(codec: Codec, frames: &[Kind]) -> Vec<String> {
        let (mut encoded, mut taken) = (BytesMut::new(), Vec::new());
        for kind in frames {
            let id = matches!(kind, Kind::Sent(_)).then_some(9);
            codec.write(&wire::ServerFrame { id, kind: Some(kind.clone()) }, &mut encoded);
        }
        let read = read(codec, &encoded, |frame| {
            taken.push(match frame {
                Frame::Entries { log, after_seq, to_seq, mut items } => {
                    let mut text = format!("{log} {after_seq} {to_seq}");
                    while let Some(item) = items.next()? {
                        text += &format!(" {} {:?}", item.seq, item.body.map(String::from_utf8_lossy));
                    }
                    text
                }
                Frame::Topic { topic, seq, body } => format!("{topic} {seq} {}", String::from_utf8_lossy(body)),
                Frame::Other(id, kind) => format!("{id:?} {kind:?}"),
            });
            Ok(())
        });
        read.expect("valid");
        taken
    }

    #[test]
    fn what_is_taken_is_what_was_sent_in_either_codec() {
        let log_id = LogId::new().to_wire();
        let renamed = Content::Renamed(wire::Renamed { title: "ü".into() });
        let items = vec![entry(300, message(Some("ünï"))), entry(301, message(None)), entry(302, renamed)];
        let frames = [
            Kind::Entries(wire::Entries { log_id: log_id.clone(), after_seq: 299, to_seq: 310, items }),
            Kind::Sent(wire::Stored { log_id: log_id.clone(), seq: 5, ..Default::default() }),
            Kind::TopicMessage(wire::TopicMessage {
                topic: "t-1".into(),
                seq: 1 << 40,
                body: "b".repeat(300),
                sender_id: UserId::new().to_wire(),
            }),
            Kind::Entries(wire::Entries { log_id, after_seq: 0, to_seq: 0, items: vec![] }),
        ];
        let proto = taken(Codec::Proto, &frames);
        assert_eq!(proto, taken(Codec::Json, &frames));
        assert!(proto[0].ends_with(r#" 299 310 300 Some("ünï") 301 None 302 None"#), "{proto:?}");
        assert_eq!(proto[2], format!("t-1 {} {}", 1u64 << 40, "b".repeat(300)));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let mut encoded = BytesMut::new();
        let kind = Some(Kind::TopicMessage(wire::TopicMessage { topic: "t".into(), ..Default::default() }));
        Codec::Proto.write(&wire::ServerFrame { id: None, kind }, &mut encoded);
        for end in 1..encoded.len() {
            assert!(read(Codec::Proto, &encoded[..end], |_| Ok(())).is_err(), "{end}");
        }
    }
}
