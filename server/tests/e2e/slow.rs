//! A reader who reads slowly lags and catches up, and nobody else feels it.

use serde_json::json;

use crate::client::{Client, new_id, send};
use crate::person::Person;
use crate::world::{get, server, server_with};

const MESSAGES: usize = 2_000;

/// So little memory for tails and pages that whoever lags reads from the stored log.
const LITTLE: [(&str, &str); 1] = [("BOWLINE_WIRE_TAIL_BYTES", "65536")];

fn body(n: usize) -> String {
    format!("{n:04} {}", "x".repeat(1_019))
}

/// Sends them all, some at a time.
async fn talk(speaker: &mut Client, log: &str) -> u64 {
    let mut last = 0;
    for chunk in (0..MESSAGES).collect::<Vec<_>>().chunks(32) {
        let posted = speaker.post_all(chunk.iter().map(|n| send(log, &body(*n)))).await;
        for id in posted {
            last = speaker.reply(id).await["sent"]["seq"].as_u64().unwrap();
        }
    }
    last
}

#[tokio::test]
async fn one_who_stops_reading_gets_everything_once_he_reads_on_and_others_never_wait() {
    let node = server_with(&LITTLE).await;
    let mut ada = Person::new().join(&node).await;
    let (mut slow, mut ben) = (Person::new().join_narrow(&node).await, Person::new().join(&node).await);
    let log = ada.group(&[&slow, &ben]).await;
    slow.member_of(&log).await;
    ben.member_of(&log).await;
    let talking = talk(&mut ada, &log);
    let listening = async {
        ben.reaches(&log, MESSAGES as u64 + 1).await;
        ben
    };
    // Ben has all of it before the slow one has read a byte.
    let (last, ben) = tokio::join!(talking, listening);
    assert_eq!(last, MESSAGES as u64 + 1);
    let expected: Vec<String> = (0..MESSAGES).map(body).collect();
    assert_eq!(ben.bodies(&log), expected);

    slow.reaches(&log, last).await;
    assert_eq!(slow.bodies(&log), expected);
    let live = ada.say(&log, "live").await;
    slow.reaches(&log, live).await;

    let (_, metrics) = get(node.url("/metrics")).await;
    let pages = metrics.lines().find_map(|line| line.strip_prefix("bowline_pages_read_total ")).unwrap();
    assert!(pages.parse::<u64>().unwrap() > 0, "it was never behind what is in memory:\n{metrics}");
}

#[tokio::test]
async fn one_who_lags_everywhere_is_ended_by_a_revocation_before_he_has_caught_up() {
    // All that he lacks is in memory, and never has to be waited for.
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let ben = Person::new();
    let mut slow = ben.join_narrow(&node).await;
    let mut logs = Vec::new();
    for _ in 0..30 {
        let log = ada.group(&[&slow]).await;
        slow.member_of(&log).await;
        logs.push(log);
    }
    for chunk in (0..MESSAGES).collect::<Vec<_>>().chunks(30) {
        let posted = ada.post_all(chunk.iter().map(|n| send(&logs[n % 30], &body(*n)))).await;
        for id in posted {
            ada.reply(id).await;
        }
    }
    let mut phone = ben.elsewhere().join(&node).await;
    slow.reaches(&logs[0], 20).await;
    let revoke = json!({ "client_id": new_id(), "session_id": ben.session });
    let got = |slow: &Client| logs.iter().map(|log| slow.bodies(log).len()).sum::<usize>();
    let before = got(&slow);
    phone.ok(json!({ "session_revoke": revoke })).await;
    assert_eq!(slow.closed().await, 4200);
    let more = got(&slow) - before;
    assert!(more < MESSAGES / 10, "{more} more were sent than what was on its way");
}
