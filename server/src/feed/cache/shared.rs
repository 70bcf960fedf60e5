//! What all nodes share: the newest value of each key, and whose turn it is to make the next.
//!
//! A key is a hash of three fields: `v`, the version of what is kept; `d`, that value; `g`, the version that was granted
//! last. Beside it is the turn, a key that expires, which holds the version that its owner will write. Versions are given by
//! Redis alone: microseconds of its clock, or one more than the last, whichever is greater. So its clock may jump, and what
//! was made before Redis lost everything still does not pass for newer.

use std::time::Duration;

use redis::{Cmd, cmd};
use uuid::Uuid;

use super::Config;
use super::entry::{Age, Entry, Life};
use crate::deadline::Deadline;
use crate::storage::redis::{Fault, Redis};

/// What is kept, unless it is the version that the caller has: version, value, milliseconds left.
const READ: &str = "
local v = redis.call('HGET', KEYS[1], 'v')
if not v or tonumber(v) <= tonumber(ARGV[1]) then return {} end
return {v, redis.call('HGET', KEYS[1], 'd'), tostring(redis.call('PTTL', KEYS[1]))}";

/// What is kept if it is newer than what the caller has; else the caller's turn with its version, if nobody else has it.
const TURN: &str = "
local entry = redis.call('HMGET', KEYS[1], 'v', 'g')
local kept = tonumber(entry[1] or '0')
if kept > tonumber(ARGV[1]) then
  return {entry[1], redis.call('HGET', KEYS[1], 'd'), tostring(redis.call('PTTL', KEYS[1]))}
end
local time = redis.call('TIME')
local version = time[1] * 1000000 + time[2]
version = math.max(version, kept + 1, tonumber(entry[2] or '0') + 1, tonumber(ARGV[1]) + 1)
version = string.format('%.0f', version)
if not redis.call('SET', KEYS[2], version, 'NX', 'PX', ARGV[2]) then return {} end
redis.call('HSET', KEYS[1], 'g', version)
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {version}";

/// Keeps a value unless a newer one is kept, and ends the turn if it is still the caller's.
const WRITE: &str = "
local kept = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
local newer = tonumber(ARGV[1]) > kept
if newer then
  redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return newer and 1 or 0";

/// Ends the turn if it is still the caller's.
const GIVE_UP: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1";

/// Length of [`Life`] in front of a value.
const LIFE_BYTES: usize = 24;

pub(super) struct Shared<V> {
    redis: Redis,
    /// In braces, so that a cluster keeps both keys of a value on one node.
    space: String,
    from_bytes: fn(&[u8]) -> Option<V>,
    turn: Duration,
    hard: Duration,
}

/// Whose turn it is.
pub(super) enum Turn<V> {
    /// Nobody's: this was made meanwhile.
    Made(Entry<V>),
    /// The caller's, who makes this version.
    Mine(u64),
    /// The caller's, and that of all others: there is no Redis.
    Alone,
}

impl<V> Shared<V> {
    pub(super) fn new(redis: Redis, space: &str, from_bytes: fn(&[u8]) -> Option<V>, config: &Config) -> Self {
        Self { redis, space: space.to_owned(), from_bytes, turn: config.turn, hard: config.hard }
    }

    /// What is kept, if it is newer than the `known` version.
    pub(super) async fn read(
        &self,
        key: Uuid,
        known: Option<u64>,
        deadline: Deadline,
    ) -> Result<Option<Entry<V>>, Fault> {
        let mut command = script(READ, &[&self.entry_key(key)]);
        let read: Vec<Vec<u8>> = self.redis.run(command.arg(known.unwrap_or(0)), deadline).await?;
        Ok(self.entry(&read))
    }

    /// The caller's turn, or what was made after the `known` version; nothing while it is another's turn.
    pub(super) async fn turn(
        &self,
        key: Uuid,
        known: Option<u64>,
        deadline: Deadline,
    ) -> Result<Option<Turn<V>>, Fault> {
        let mut command = script(TURN, &[&self.entry_key(key), &self.turn_key(key)]);
        command.arg(known.unwrap_or(0)).arg(in_ms(self.turn)).arg(in_ms(self.hard));
        let answer: Vec<Vec<u8>> = self.redis.run(&command, deadline).await?;
        Ok(match answer.as_slice() {
            [] => None,
            [version] => Some(number(version).map_or(Turn::Alone, Turn::Mine)),
            // What another version of this program wrote stays, and is not used.
            kept => Some(self.entry(kept).map_or(Turn::Alone, Turn::Made)),
        })
    }

    /// Keeps what was made in the turn of this version; whether it was refused, since a newer one is kept.
    pub(super) async fn write(&self, key: Uuid, version: u64, life: Life, value: &[u8]) -> bool {
        let mut command = script(WRITE, &[&self.entry_key(key), &self.turn_key(key)]);
        command.arg(version).arg([&life_to_bytes(life), value].concat()).arg(in_ms(life.hard));
        // Without an answer the turn ends by itself.
        self.redis.run::<u8>(&command, Deadline::after(self.turn)).await.is_ok_and(|newer| newer == 0)
    }

    /// Ends the turn of this version with nothing made.
    pub(super) async fn give_up(&self, key: Uuid, version: u64) {
        let mut command = script(GIVE_UP, &[&self.turn_key(key)]);
        // Without an answer the turn ends by itself.
        let _ = self.redis.run::<u8>(command.arg(version), Deadline::after(self.turn)).await;
    }

    fn entry(&self, answer: &[Vec<u8>]) -> Option<Entry<V>> {
        let [version, bytes, left] = answer else { return None };
        let (life, value) = bytes.split_first_chunk::<LIFE_BYTES>()?;
        let life = life_from_bytes(life);
        // It is written once it is made, and as old as the moment at which making it began.
        let age = life.hard.saturating_sub(Duration::from_millis(number(left)?)) + life.cost;
        let bytes = value.len();
        Some(Entry::new(number(version)?, (self.from_bytes)(value)?, life, Age::at_present(age), bytes))
    }

    fn entry_key(&self, key: Uuid) -> String {
        format!("bowline:{{{}:{key}}}", self.space)
    }

    fn turn_key(&self, key: Uuid) -> String {
        format!("bowline:{{{}:{key}}}:turn", self.space)
    }
}

fn script(text: &str, keys: &[&str]) -> Cmd {
    cmd("EVAL").arg(text).arg(keys.len()).arg(keys).take()
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn life_to_bytes(Life { soft, hard, cost }: Life) -> [u8; LIFE_BYTES] {
    let mut bytes = [0; LIFE_BYTES];
    for (place, time) in bytes.chunks_exact_mut(8).zip([soft, hard, cost]) {
        place.copy_from_slice(&u64::try_from(time.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
    }
    bytes
}

fn life_from_bytes(bytes: &[u8; LIFE_BYTES]) -> Life {
    let mut times = bytes.chunks_exact(8).map(|time| {
        let micros = time.try_into().map(u64::from_be_bytes).unwrap_or_default();
        Duration::from_micros(micros)
    });
    let mut next = || times.next().unwrap_or_default();
    Life { soft: next(), hard: next(), cost: next() }
}
