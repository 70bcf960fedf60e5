use proptest::collection::vec;
use proptest::num::f64;
use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn id(number: u8) -> Uuid {
    Uuid::from_u128(number.into())
}

/// Few posts and fewer authors, so that sources meet; numbers from nothing to more than there can be.
fn candidate(weight: impl Strategy<Value = f64>) -> impl Strategy<Value = Candidate> {
    let count = || prop_oneof![Just(0), 0..200_u64, Just(u64::MAX)];
    let created = prop_oneof![NOW_MS - 3 * DAY_MS..NOW_MS + DAY_MS, Just(NOW_MS), any::<i64>()];
    let sources =
        any::<[bool; 3]>().prop_map(|[followee, trending, affinity]| Sources { followee, trending, affinity });
    (0..40_u8, created, [count(), count(), count()], weight, any::<bool>(), sources).prop_map(
        |(post, created_at_ms, [likes, comments, shares], affinity_weight, followed, sources)| Candidate {
            post: id(post),
            // A post has one author.
            author: UserId(id(post % 7 % 5)),
            created_at_ms,
            likes,
            comments,
            shares,
            affinity_weight,
            followed,
            sources,
        },
    )
}

fn finite() -> impl Strategy<Value = Vec<Candidate>> {
    vec(candidate(-1.0..100.0), 0..80)
}

fn with_order() -> impl Strategy<Value = (Vec<Candidate>, Vec<Candidate>)> {
    let candidates = vec(candidate(prop_oneof![9 => 0.0..40.0, 1 => Just(f64::NAN)]), 0..80);
    candidates.prop_flat_map(|candidates| (Just(candidates.clone()), Just(candidates).prop_shuffle()))
}

fn ranked(candidates: &[Candidate]) -> Ranking {
    rank(candidates.iter().cloned(), &Weights::default(), NOW_MS)
}

/// What each signal may become when a post gains by it.
fn better(candidate: &Candidate, signal: u8, by: u64) -> Candidate {
    let mut better = candidate.clone();
    match signal {
        0 => better.likes = better.likes.saturating_add(by),
        1 => better.comments = better.comments.saturating_add(by),
        2 => better.shares = better.shares.saturating_add(by),
        3 => better.affinity_weight += by as f64,
        4 => better.created_at_ms = better.created_at_ms.saturating_add(by.cast_signed()),
        _ => better.followed = true,
    }
    better
}

proptest! {
    #[test]
    fn the_order_in_which_candidates_come_does_not_matter((candidates, shuffled) in with_order()) {
        prop_assert_eq!(ranked(&candidates), ranked(&shuffled));
    }

    #[test]
    fn a_post_has_one_row_with_all_its_sources(candidates in finite()) {
        let ranking = ranked(&candidates);
        let mut posts: Vec<Uuid> = ranking.posts.iter().map(|ranked| ranked.post).collect();
        posts.sort_unstable();
        let mut expected: Vec<Uuid> = candidates.iter().map(|candidate| candidate.post).collect();
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(posts, expected);
        for ranked in ranking.posts {
            let any = |source: fn(&Sources) -> bool| {
                candidates.iter().any(|candidate| candidate.post == ranked.post && source(&candidate.sources))
            };
            let all = Sources {
                followee: any(|sources| sources.followee),
                trending: any(|sources| sources.trending),
                affinity: any(|sources| sources.affinity),
            };
            prop_assert_eq!(ranked.reasons, all);
        }
    }

    #[test]
    fn an_author_never_has_three_in_a_row_while_another_is_left(candidates in finite()) {
        let authors: Vec<UserId> = ranked(&candidates).posts.iter().map(|ranked| ranked.author).collect();
        for (at, three) in authors.windows(3).enumerate() {
            let alone = three.iter().all(|author| *author == three[0]);
            let another_follows = authors[at..].iter().any(|author| *author != three[0]);
            prop_assert!(!(alone && another_follows), "{authors:?}");
        }
    }

    #[test]
    fn each_further_post_of_an_author_counts_less(candidates in finite()) {
        let weights = Weights::default();
        let (merged, _) = merge(candidates.clone());
        let mut earlier: HashMap<UserId, i32> = HashMap::new();
        for ranked in ranked(&candidates).posts {
            let k = earlier.entry(ranked.author).or_default();
            let expected = score(&merged[&ranked.post], &weights, NOW_MS) * (0.75 * 0.5_f64.powi(*k) + 0.25);
            prop_assert!((ranked.score - expected).abs() < 1e-12, "{ranked:?}: not {expected}");
            *k += 1;
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_and_counted(candidates in vec(candidate(f64::ANY), 0..80)) {
        let ranking = ranked(&candidates);
        prop_assert!(ranking.posts.iter().all(|ranked| ranked.score.is_finite() && ranked.score >= 0.0));
        let refused = candidates.iter().filter(|candidate| !candidate.affinity_weight.is_finite());
        prop_assert_eq!(ranking.refused, refused.count());
    }

    #[test]
    fn nothing_that_speaks_for_a_post_lowers_it(
        mut candidates in finite(), chosen in any::<prop::sample::Index>(), signal in 0..6_u8,
        by in prop_oneof![1..10_u64, 1..1_000_000_u64],
    ) {
        prop_assume!(!candidates.is_empty());
        let weights = Weights::default();
        let (merged, _) = merge(candidates.clone());
        candidates = merged.into_values().collect();
        candidates.sort_by_key(|candidate| candidate.post);
        let chosen = chosen.index(candidates.len());
        let improved = better(&candidates[chosen], signal, by);
        prop_assert!(score(&improved, &weights, NOW_MS) >= score(&candidates[chosen], &weights, NOW_MS));
        let place = |ranking: Ranking| ranking.posts.iter().position(|ranked| ranked.post == improved.post);
        let before = place(ranked(&candidates));
        candidates[chosen] = improved.clone();
        prop_assert!(place(ranked(&candidates)) <= before);
    }
}

#[test]
fn a_ranking_is_bounded_and_keeps_the_best() {
    let candidates = (0..2_000_u128).map(|number| Candidate {
        post: Uuid::from_u128(number),
        author: UserId(Uuid::from_u128(number)),
        created_at_ms: NOW_MS,
        likes: 0,
        comments: 0,
        shares: 0,
        affinity_weight: number as f64 / 100.0,
        followed: true,
        sources: Sources::default(),
    });
    let posts: Vec<u128> =
        rank(candidates, &Weights::default(), NOW_MS).posts.iter().map(|ranked| ranked.post.as_u128()).collect();
    assert_eq!(posts, (1_500..2_000).rev().collect::<Vec<u128>>());
}

#[test]
fn weights_that_could_make_a_score_that_is_no_number_are_not_allowed() {
    assert_eq!(Weights::default().validate(), []);
    let wrong = Weights { half_life_h: 0.0, engagement_p99: f64::NAN, repeat_decay: 1.5, ..Weights::default() };
    let keys: Vec<String> = wrong.validate().into_iter().map(|invalid| invalid.key).collect();
    assert_eq!(keys, ["half_life_h", "engagement_p99", "repeat_decay"]);
}
