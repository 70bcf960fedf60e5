//! Rankings worked out by a second program: the expected scores are not this one's.

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

/// Ranks candidates that are written as `POST key=value… flag…`; a post's first letter is its author. The ranking is read
/// as `POST SCORE sources`.
#[track_caller]
fn check(what: &str, candidates: &str, expected: &str) {
    let ranking = rank(listed(candidates).map(candidate), &Weights::default(), NOW_MS);
    let shown: Vec<String> = ranking.posts.iter().map(show).collect();
    assert_eq!(shown, listed(expected).collect::<Vec<_>>(), "{what}");
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split("; ").filter(|row| !row.is_empty())
}

fn name(of: &str) -> Uuid {
    Uuid::from_slice(format!("{of:>16}").as_bytes()).unwrap()
}

fn candidate(text: &str) -> Candidate {
    let mut words = text.split(' ');
    let post = words.next().unwrap();
    let mut candidate = Candidate {
        post: name(post),
        author: UserId(name(&post[..1])),
        created_at_ms: NOW_MS,
        likes: 0,
        comments: 0,
        shares: 0,
        affinity_weight: 0.0,
        followed: false,
        sources: Sources::default(),
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("age_h", hours) => candidate.created_at_ms -= (hours.parse::<f64>().unwrap() * HOUR_MS).round() as i64,
            ("likes", count) => candidate.likes = count.parse().unwrap(),
            ("comments", count) => candidate.comments = count.parse().unwrap(),
            ("shares", count) => candidate.shares = count.parse().unwrap(),
            ("w", weight) => candidate.affinity_weight = weight.parse().unwrap(),
            ("followed", "") => candidate.followed = true,
            ("followee", "") => candidate.sources.followee = true,
            ("trending", "") => candidate.sources.trending = true,
            ("affinity", "") => candidate.sources.affinity = true,
            other => panic!("{other:?}"),
        }
    }
    candidate
}

fn show(ranked: &Ranked) -> String {
    let Sources { followee, trending, affinity } = ranked.reasons;
    let sources = [(followee, "followee"), (trending, "trending"), (affinity, "affinity")];
    let sources: Vec<&str> = sources.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    let post = String::from_utf8_lossy(ranked.post.as_bytes()).trim().to_owned();
    format!("{post} {:.4} {}", ranked.score, sources.join("+")).trim_end().to_owned()
}

#[test]
fn golden() {
    check("nothing gives nothing", "", "");
    check("a fresh post of a followee is worth its freshness", "a1 followed followee", "a1 0.3000 followee");
    check("half a life later it is worth half", "a1 age_h=4.6 followed followee", "a1 0.1500 followee");
    check(
        "a post from the future is as fresh as one of this moment",
        "a1 age_h=-5 followed followee",
        "a1 0.3000 followee",
    );
    check(
        "a comment counts as two likes, a share as three",
        "a1 likes=6 followed; b1 comments=3 followed; c1 shares=2 followed",
        "c1 0.4687; b1 0.4687; a1 0.4687",
    );
    check(
        "engagement beyond the best of a hundred posts counts no more",
        "a1 likes=100 followed; b1 likes=1000000000 age_h=1 followed",
        "a1 0.7000; b1 0.6580",
    );
    check(
        "who follows nobody is offered what trends, a quarter less",
        "a1 likes=50 comments=10 trending; b1 likes=5 age_h=1 trending",
        "a1 0.5021 trending; b1 0.3100 trending",
    );
    check(
        "affinity lifts a stranger over a followee who is never read",
        "a1 age_h=2 followed followee; b1 age_h=2 w=16 affinity",
        "b1 0.3610 affinity; a1 0.2219 followee",
    );
    check("an affinity below nothing is none", "a1 w=-3 followed", "a1 0.3000");
    check(
        "an affinity that is no number is refused",
        "a1 w=nan followed; b1 w=inf followed; c1 w=1 followed",
        "c1 0.3353",
    );
    check(
        "sources that meet in a post are one row with the highest counts",
        "a1 likes=3 comments=1 followed followee; a1 likes=5 trending; a1 w=4 likes=1 affinity",
        "a1 0.5983 followee+trending+affinity",
    );
    check(
        "an author is put back by his own posts",
        "a1 likes=30 followed; a2 likes=30 age_h=0.1 followed; a3 likes=30 age_h=0.2 followed; b1 age_h=1 followed; c1 age_h=2 followed",
        "a1 0.5976; a2 0.3707; b1 0.2580; a3 0.2576; c1 0.2219",
    );
    check(
        "two in a row at most, while there is another",
        "a1 likes=100 w=50 followed; a2 likes=100 w=50 followed; a3 likes=100 w=50 followed; b1 age_h=20; b2 age_h=40",
        "a3 0.9994; a2 0.6246; b1 0.0110; a1 0.4372; b2 0.0003",
    );
    check(
        "an author who is alone is not cut short",
        "a1 followed; a2 age_h=1 followed; a3 age_h=2 followed; a4 age_h=3 followed",
        "a1 0.3000; a2 0.1613; a3 0.0971; a4 0.0656",
    );
    check(
        "a tie goes to the newer, then to the greater id",
        "a1 age_h=100000 followed; b1 age_h=100001 followed; c1 age_h=100001 followed",
        "a1 0.0000; c1 0.0000; b1 0.0000",
    );
    check("old and loved beats new and unseen", "a1 age_h=48 likes=90 followed; b1 followed", "a1 0.3912; b1 0.3000");
}
