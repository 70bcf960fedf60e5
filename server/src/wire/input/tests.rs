use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const LIMIT: usize = 2_000;

/// What came out of bytes that were fed in pieces, and how it ended.
fn read(bytes: &[u8], cuts: &[Index]) -> (Vec<String>, Option<Close>) {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    let (mut input, mut events) = (Input::default(), Vec::new());
    for pair in at.windows(2) {
        let mut piece = bytes[pair[0]..pair[1]].to_vec();
        let mut at = 0;
        loop {
            match input.next(&mut piece, &mut at, LIMIT) {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(close) => return (events, Some(close)),
            }
        }
        assert_eq!(at, piece.len(), "bytes were left");
    }
    (events, None)
}

fn frame(first: u8, payload: &[u8], mask: [u8; 4], length_bytes: usize) -> Vec<u8> {
    let length = match length_bytes {
        0 => vec![0x80 | payload.len() as u8],
        2 => [&[0x80 | 126], &(payload.len() as u16).to_be_bytes()[..]].concat(),
        _ => [&[0x80 | 127], &(payload.len() as u64).to_be_bytes()[..]].concat(),
    };
    let mut masked = payload.to_vec();
    unmask(&mut masked, mask, 0);
    [&[first], &length[..], &mask, &masked].concat()
}

/// A frame with the shortest length.
fn short(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let length_bytes = match payload.len() {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    frame(first, payload, mask, length_bytes)
}

/// A message in fragments, maybe with pings between them, and the events that it makes.
#[derive(Clone, Debug)]
struct Sent {
    text: bool,
    payload: Vec<u8>,
    cuts: Vec<Index>,
    pings: Vec<(Index, Vec<u8>)>,
    mask: [u8; 4],
}

impl Sent {
    fn bytes(&self, events: &mut Vec<String>) -> Vec<u8> {
        let mut at: Vec<usize> = self.cuts.iter().map(|cut| cut.index(self.payload.len() + 1)).collect();
        at.extend([0, self.payload.len()]);
        at.sort_unstable();
        let fragments = at.len() - 1;
        let mut bytes = Vec::new();
        for (i, pair) in at.windows(2).enumerate() {
            for (_, ping) in self.pings.iter().filter(|(place, _)| place.index(fragments) == i) {
                bytes.extend(short(0x89, ping, self.mask));
                events.push(format!("{:?}", Event::Ping(ping)));
            }
            let opcode = if i > 0 { 0 } else { 2 - u8::from(self.text) };
            let last = if i + 1 == fragments { 0x80 } else { 0 };
            bytes.extend(short(last | opcode, &self.payload[pair[0]..pair[1]], self.mask));
        }
        events.push(format!("{:?}", Event::Message { text: self.text, payload: &self.payload }));
        bytes
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        "[ -~äß€🙂]{0,300}".prop_map(|text| (true, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..LIMIT).prop_map(|bytes| (false, bytes)),
    ];
    let pings = prop::collection::vec((any::<Index>(), prop::collection::vec(any::<u8>(), 0..125)), 0..3);
    (payload, prop::collection::vec(any::<Index>(), 0..4), pings, any::<[u8; 4]>())
        .prop_map(|((text, payload), cuts, pings, mask)| Sent { text, payload, cuts, pings, mask })
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut(
        messages in prop::collection::vec(sent(), 1..6),
        cuts: Vec<Index>,
    ) {
        let mut expected = Vec::new();
        let bytes: Vec<u8> = messages.iter().flat_map(|message| message.bytes(&mut expected)).collect();
        prop_assert_eq!(read(&bytes, &cuts), (expected, None));
    }

    #[test]
    fn broken_input_is_refused_alike_however_it_is_cut(
        messages in prop::collection::vec(sent(), 1..4),
        breaks in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cuts: Vec<Index>,
    ) {
        let mut bytes: Vec<u8> = messages.iter().flat_map(|message| message.bytes(&mut Vec::new())).collect();
        for (at, byte) in breaks {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(read(&bytes, &[]), read(&bytes, &cuts));
    }

    #[test]
    fn any_bytes_are_judged_alike_however_they_are_cut(bytes: Vec<u8>, cuts: Vec<Index>) {
        prop_assert_eq!(read(&bytes, &[]), read(&bytes, &cuts));
    }
}

#[test]
fn what_breaks_the_framing_is_refused_as_soon_as_it_shows() {
    let mask = [1, 2, 3, 4];
    let cases: &[(&str, Vec<u8>, Close)] = &[
        ("a reserved bit", vec![0xc1], Close::Protocol),
        ("a reserved opcode", vec![0x83], Close::Protocol),
        ("a reserved control opcode", vec![0x8b], Close::Protocol),
        ("no mask", vec![0x81, 0x05], Close::Protocol),
        ("a ping in fragments", vec![0x09], Close::Protocol),
        ("a long ping", vec![0x89, 0x80 | 126], Close::Protocol),
        ("a length that is not the shortest, 16 bits", frame(0x82, &[7; 125], mask, 2), Close::Protocol),
        ("a length that is not the shortest, 64 bits", frame(0x82, &[7; 126], mask, 8), Close::Protocol),
        ("a length with the top bit", [&[0x82, 0xff, 0x80][..], &[0; 11]].concat(), Close::Protocol),
        ("a continuation of nothing", short(0x80, b"x", mask), Close::Protocol),
        ("a new message in a message", [short(0x01, b"x", mask), short(0x81, b"y", mask)].concat(), Close::Protocol),
        ("a long message", short(0x82, &[7; LIMIT + 1], mask)[..8].to_vec(), Close::TooBig),
        (
            "a long message in fragments",
            [short(0x02, &[7; LIMIT], mask), short(0x80, b"x", mask)].concat(),
            Close::TooBig,
        ),
        ("text that can't be UTF-8 any more", short(0x01, b"a\xf4\x90", mask), Close::NotUtf8),
        ("text that ends in a character", short(0x81, b"a\xe2\x82", mask), Close::NotUtf8),
        ("a close of one byte", short(0x88, b"x", mask), Close::Protocol),
        ("a close with a code that is nobody's", short(0x88, &1005u16.to_be_bytes(), mask), Close::Protocol),
        ("a close whose reason is not UTF-8", short(0x88, b"\x03\xe8\xff", mask), Close::NotUtf8),
    ];
    for (name, bytes, close) in cases {
        assert_eq!(read(bytes, &[]), (vec![], Some(*close)), "{name}");
    }
}

#[test]
fn nothing_is_kept_between_whole_messages() {
    let mut bytes = [short(0x01, b"a", [9; 4]), short(0x80, b"b", [8; 4]), short(0x82, b"c", [7; 4])].concat();
    let (mut input, mut at) = (Input::default(), 0);
    while input.next(&mut bytes, &mut at, LIMIT).expect("valid").is_some() {}
    assert!(input.0.is_none());
}
