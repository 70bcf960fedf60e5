//! A transcript: rooms, their lines in order, and who wrote them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::check::Line;

pub(crate) struct Transcript {
    /// By first line.
    pub(crate) authors: Vec<String>,
    pub(crate) rooms: Vec<Room>,
}

pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
    /// When each line was written, from the room's first on. Lines of one minute are spread over it.
    pub(crate) due: Vec<Duration>,
    /// The authors by their first line in this room, with that line's place.
    pub(crate) joins: Vec<(u32, usize)>,
}

#[derive(Deserialize)]
struct Record {
    room: String,
    at: String,
    from: String,
    body: String,
}

/// The times of a transcript have this grain.
const MINUTE: Duration = Duration::from_secs(60);

impl Transcript {
    /// Reads a file of one JSON object a line, plain or gzipped: of its first so many rooms the first so many lines.
    pub(crate) fn read(path: &Path, most_rooms: Option<usize>, most_lines: Option<u64>) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let gzipped = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Self::parse(BufReader::new(reader), most_rooms, most_lines).with_context(|| path.display().to_string())
    }

    pub(crate) fn parse(
        reader: impl BufRead,
        most_rooms: Option<usize>,
        most_lines: Option<u64>,
    ) -> anyhow::Result<Self> {
        let mut authors: HashMap<String, u32> = HashMap::new();
        let mut rooms: Vec<(Room, Vec<i64>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut kept = 0;
        for (n, text) in reader.lines().enumerate() {
            if most_lines.is_some_and(|most| kept >= most) {
                break;
            }
            let record: Record = serde_json::from_str(&text?).with_context(|| format!("line {}", n + 1))?;
            let minute = minute(&record.at).with_context(|| format!("line {}: at {:?}", n + 1, record.at))?;
            let place = match places.get(&record.room) {
                Some(place) => *place,
                None if most_rooms.is_some_and(|most| rooms.len() >= most) => continue,
                None => {
                    let room = Room { name: record.room.clone(), lines: vec![], due: vec![], joins: vec![] };
                    rooms.push((room, Vec::new()));
                    places.insert(record.room, rooms.len() - 1);
                    rooms.len() - 1
                }
            };
            let next = u32::try_from(authors.len())?;
            let author = *authors.entry(record.from).or_insert(next);
            let (room, minutes) = &mut rooms[place];
            if !room.joins.iter().any(|(joined, _)| *joined == author) {
                room.joins.push((author, room.lines.len()));
            }
            room.lines.push(Line { author, body: record.body });
            minutes.push(minute);
            kept += 1;
        }
        ensure!(!rooms.is_empty(), "no lines");
        let mut names: Vec<_> = authors.into_iter().collect();
        names.sort_unstable_by_key(|(_, author)| *author);
        let rooms = rooms.into_iter().map(|(room, minutes)| Room { due: spread(&minutes), ..room }).collect();
        Ok(Self { authors: names.into_iter().map(|(name, _)| name).collect(), rooms })
    }

    pub(crate) fn lines(&self) -> usize {
        self.rooms.iter().map(|room| room.lines.len()).sum()
    }

    /// Every author of a room is to see every line of it.
    pub(crate) fn deliveries(&self) -> u64 {
        self.rooms.iter().map(|room| room.lines.len() as u64 * room.joins.len() as u64).sum()
    }
}

/// Minutes since 1970 of `2004-12-25T09:14:00Z`.
fn minute(at: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| at.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute) = (number(11..13)?, number(14..16)?);
    if !(1..=12).contains(&month) || !at.ends_with('Z') {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, years counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some((days * 24 + hour) * 60 + minute)
}

/// When each line is due. Minutes never go back, whatever the transcript's clock did.
fn spread(minutes: &[i64]) -> Vec<Duration> {
    let mut due = Vec::with_capacity(minutes.len());
    let mut at = minutes.first().copied().unwrap_or(0);
    let first = at;
    for group in minutes.chunk_by(|a, b| a == b) {
        at = at.max(group[0]);
        let start = MINUTE * u32::try_from(at - first).unwrap_or(u32::MAX);
        let step = MINUTE / u32::try_from(group.len()).unwrap_or(u32::MAX);
        due.extend((0..group.len() as u32).map(|n| start + step * n));
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"room":"a","at":"2004-12-25T09:14:00Z","from":"x","body":"1"}
{"room":"b","at":"2004-12-25T09:14:00Z","from":"y","body":""}
{"room":"a","at":"2004-12-25T09:14:00Z","from":"y","body":"2 ü"}
{"room":"a","at":"2004-12-25T09:16:00Z","from":"x","body":"3"}
{"room":"a","at":"2004-12-25T09:15:00Z","from":"x","body":"4"}
"#;

    #[test]
    fn rooms_authors_and_times() {
        let read = |rooms, lines| Transcript::parse(TEXT.as_bytes(), rooms, lines).expect("a transcript");
        let t = read(None, None);
        assert_eq!((t.authors.as_slice(), t.lines(), t.deliveries()), (&["x".to_owned(), "y".to_owned()][..], 5, 9));
        let a = &t.rooms[0];
        assert_eq!(a.joins, [(0, 0), (1, 1)]);
        assert_eq!(a.due.iter().map(Duration::as_secs).collect::<Vec<_>>(), [0, 30, 120, 120]);
        for (rooms, lines, expected) in
            [(Some(1), None, 4), (None, Some(2), 2), (Some(1), Some(2), 2), (None, Some(9), 5)]
        {
            assert_eq!(read(rooms, lines).lines(), expected, "{rooms:?} rooms, {lines:?} lines");
        }
        assert_eq!(read(None, Some(2)).deliveries(), 2, "who says nothing is not there");
    }

    #[test]
    fn minutes_of_the_calendar() {
        for (at, minutes) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-03-01T00:01:00Z", Some(59 * 1440 + 1)),
            ("2000-02-29T12:00:00Z", Some(951_825_600 / 60)),
            ("2017-12-31T23:59:00Z", Some(1_514_764_740 / 60)),
            ("2017-13-01T00:00:00Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(minute(at), minutes, "{at}");
        }
    }

    #[test]
    fn the_transcript_that_comes_along_is_whole() {
        let t = Transcript::read(Path::new("data/irc-ubuntu.jsonl.gz"), None, None).expect("the file");
        assert_eq!((t.lines(), t.rooms.len(), t.authors.len()), (72_021, 60, 5_375));
        assert_eq!(t.rooms.iter().flat_map(|r| &r.lines).filter(|line| line.body.is_empty()).count(), 9);
    }
}
