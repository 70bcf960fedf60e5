//! Whose page is asked for next.

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// How often which reader asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Spread {
    /// The second half as often as the first, the third a third as often
    Zipf,
    /// Each as often as another
    Uniform,
}

pub(super) struct Choice {
    dice: StdRng,
    of: Of,
}

enum Of {
    /// Sums of what each reader's turn weighs.
    Weighted(Vec<f64>),
    /// Each reader once: who comes next, and how many there are.
    Once(usize, usize),
}

impl Choice {
    pub(super) fn new(readers: usize, spread: Spread, seed: u64) -> Self {
        let weight = |n: usize| match spread {
            Spread::Zipf => 1.0 / (n + 1) as f64,
            Spread::Uniform => 1.0,
        };
        let sums = (0..readers).scan(0.0, |sum, n| {
            *sum += weight(n);
            Some(*sum)
        });
        Self { dice: StdRng::seed_from_u64(seed), of: Of::Weighted(sums.collect()) }
    }

    /// Each of them once.
    pub(super) fn once(readers: usize, seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), of: Of::Once(0, readers) }
    }

    /// None: everybody had his turn.
    pub(super) fn next(&mut self) -> Option<usize> {
        match &mut self.of {
            Of::Once(next, readers) => {
                let turn = (*next < *readers).then_some(*next);
                *next += 1;
                turn
            }
            Of::Weighted(sums) => {
                let all = *sums.last()?;
                let at = self.dice.random::<f64>() * all;
                Some(sums.partition_point(|sum| *sum <= at).min(sums.len() - 1))
            }
        }
    }

    /// Happens in this share of the cases.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.dice.random::<f64>() < share
    }
}

/// So many of the people, in an order of chance; all, if they are fewer.
pub(super) fn draw(people: usize, wanted: usize, seed: u64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..people).collect();
    all.shuffle(&mut StdRng::seed_from_u64(seed));
    all.truncate(wanted);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(spread: Spread) -> Vec<u32> {
        let mut counts = vec![0; 4];
        let mut choice = Choice::new(4, spread, 7);
        (0..25_000).for_each(|_| counts[choice.next().expect("a reader")] += 1);
        counts
    }

    #[test]
    fn readers_come_as_often_as_the_spread_says() {
        for (spread, expected) in
            [(Spread::Uniform, [6_250, 6_250, 6_250, 6_250]), (Spread::Zipf, [12_000, 6_000, 4_000, 3_000])]
        {
            let counts = counts(spread);
            let near = counts.iter().zip(expected).all(|(count, wanted)| count.abs_diff(wanted) < wanted / 10);
            assert!(near, "{spread:?}: {counts:?}");
        }
    }

    #[test]
    fn once_is_once() {
        let mut choice = Choice::once(3, 1);
        let turns: Vec<_> = std::iter::from_fn(|| choice.next()).collect();
        assert_eq!(turns, [0, 1, 2]);
        assert_eq!(Choice::new(0, Spread::Zipf, 1).next(), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_readers() {
        assert_eq!(draw(100, 10, 3), draw(100, 10, 3));
        assert_ne!(draw(100, 10, 3), draw(100, 10, 4));
        let mut all = draw(5, 9, 1);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
    }
}
