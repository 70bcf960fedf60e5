//! RFC 6455 as far as a client needs it that trusts its server. Pure.

use anyhow::ensure;
use bowline_client::protocol::Codec;

/// Puts messages together from what was read.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The beginning of a message that is not whole; empty, and without memory, while none is.
    partial: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Binary or text: which of them, the codec says.
    Data(&'a [u8]),
    Ping(&'a [u8]),
    Close(u16, &'a [u8]),
    Other,
}

/// Longer messages are not taken.
const MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

impl Inbox {
    /// Everything so far and these bytes: for what comes before messages do.
    pub(crate) fn gather(&mut self, bytes: &[u8]) -> &[u8] {
        self.partial.extend_from_slice(bytes);
        &self.partial
    }

    pub(crate) fn clear(&mut self) {
        self.partial = Vec::new();
    }

    /// Takes what was read, and gives each message that is whole.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Message<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.partial.is_empty() {
            let used = split(bytes, &mut each)?;
            if used < bytes.len() {
                self.partial = bytes[used..].to_vec();
            }
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        let used = split(&self.partial, &mut each)?;
        if used == self.partial.len() {
            self.partial = Vec::new();
        } else {
            self.partial.drain(..used);
        }
        Ok(())
    }
}

/// Gives the whole messages at the start of `bytes`, and how long they are.
fn split(bytes: &[u8], each: &mut impl FnMut(Message<'_>) -> anyhow::Result<()>) -> anyhow::Result<usize> {
    let mut used = 0;
    while let Some((message, length)) = first(&bytes[used..])? {
        each(message)?;
        used += length;
    }
    Ok(used)
}

fn first(bytes: &[u8]) -> anyhow::Result<Option<(Message<'_>, usize)>> {
    let [start, second, ..] = *bytes else { return Ok(None) };
    ensure!(start & 0x80 != 0 && start & 0x70 == 0, "fragments and extensions were not asked for");
    ensure!(second & 0x80 == 0, "a server does not mask");
    let (length, header) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(b) => (u64::from(u16::from_be_bytes([b[0], b[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|b| b.try_into().ok()) {
            Some(b) => (u64::from_be_bytes(b), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    ensure!(length <= MESSAGE_BYTES, "a message of {length} bytes");
    let end = header + length as usize;
    let Some(payload) = bytes.get(header..end) else { return Ok(None) };
    let message = match start & 0x0f {
        1 | 2 => Message::Data(payload),
        8 => match payload.split_first_chunk() {
            Some((code, reason)) => Message::Close(u16::from_be_bytes(*code), reason),
            None => Message::Close(1005, &[]),
        },
        9 => Message::Ping(payload),
        _ => Message::Other,
    };
    Ok(Some((message, end)))
}

pub(crate) fn write_data(codec: Codec, payload: &[u8], out: &mut Vec<u8>) {
    let opcode = match codec {
        Codec::Proto => 2,
        Codec::Json => 1,
    };
    write(opcode, payload, out);
}

pub(crate) fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write(10, payload, out);
}

/// The mask is zero: it is there to protect proxies from pages in a browser, and costs time on both sides.
fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ ..126 => out.push(0x80 | length as u8),
        length @ ..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a server writes it: no mask.
    fn served(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        write(opcode, payload, &mut masked);
        let header = masked.len() - payload.len() - 4;
        masked[1] &= 0x7f;
        masked.drain(header..header + 4);
        masked
    }

    fn read(chunks: impl IntoIterator<Item = Vec<u8>>) -> anyhow::Result<(Vec<Vec<u8>>, Inbox)> {
        let (mut inbox, mut got) = (Inbox::default(), Vec::new());
        for chunk in chunks {
            inbox.take(&chunk, |message| {
                if let Message::Data(bytes) = message {
                    got.push(bytes.to_vec());
                }
                Ok(())
            })?;
        }
        Ok((got, inbox))
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_they_are_cut(
            lengths in prop::collection::vec(prop_oneof![0usize..200, Just(126), Just(65_535), Just(65_536)], 1..5),
            cuts in prop::collection::vec(1usize..5_000, 1..20),
        ) {
            let messages: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, length)| vec![n as u8; *length]).collect();
            let mut stream: Vec<u8> = messages.iter().flat_map(|message| served(2, message)).collect();
            let mut chunks = Vec::new();
            for cut in cuts.iter().cycle() {
                if stream.is_empty() { break }
                let rest = stream.split_off((*cut).min(stream.len()));
                chunks.push(std::mem::replace(&mut stream, rest));
            }
            let (got, inbox) = read(chunks).expect("valid");
            prop_assert_eq!(got, messages);
            prop_assert_eq!(inbox.partial.capacity(), 0, "a socket that waits owns nothing");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        for bytes in
            [vec![0x02, 0], vec![0xc2, 0], vec![0x82, 0x80, 0, 0, 0, 0], vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(read([bytes.clone()]).is_err(), "{bytes:?}");
        }
        let close = served(8, &4001u16.to_be_bytes());
        assert_eq!(first(&close).expect("valid"), Some((Message::Close(4001, b""), 4)));
    }
}
