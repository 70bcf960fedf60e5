//! What the rounds came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Name;
use super::side::NAMES;
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;
use crate::unit::number;

/// One side in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) deliveries_per_cpu_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Round {
    shape: Name,
    round: u32,
    #[serde(flatten)]
    sides: Sides,
    ephemeral_over_bare: f64,
    durable_over_ephemeral: f64,
}

/// In the order of [`NAMES`].
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sides {
    bare: Option<Measured>,
    ephemeral: Option<Measured>,
    durable: Option<Measured>,
}

/// Of all rounds of a shape: medians, and ratios as the median of the rounds' own.
#[derive(Debug, Serialize)]
struct Shape {
    bare: Measured,
    ephemeral: Measured,
    durable: Measured,
    ephemeral_over_bare: f64,
    durable_over_ephemeral: f64,
    #[serde(skip)]
    spread: [(f64, f64); 2],
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(super) struct Summary {
    duration_s: f64,
    #[serde(flatten)]
    shapes: BTreeMap<Name, Shape>,
    rounds: Vec<Round>,
}

/// Of a delivery, at p99.
const BEHIND_MS: f64 = 200.0;

impl Measured {
    pub(super) fn new(deliveries: u64, cpu: Duration, times: &Percentiles) -> Self {
        let deliveries_per_cpu_s = deliveries as f64 / cpu.as_secs_f64().max(1e-6);
        Self { deliveries_per_cpu_s, p50_ms: times.p50_ms, p99_ms: times.p99_ms }
    }

    fn median(of: &[Measured]) -> Self {
        let by = |value: fn(&Measured) -> f64| median(of.iter().map(value).collect());
        Self {
            deliveries_per_cpu_s: by(|one| one.deliveries_per_cpu_s),
            p50_ms: by(|one| one.p50_ms),
            p99_ms: by(|one| one.p99_ms),
        }
    }
}

impl Round {
    pub(super) fn new(shape: Name, round: u32) -> Self {
        Self { shape, round, sides: Sides::default(), ephemeral_over_bare: 0.0, durable_over_ephemeral: 0.0 }
    }

    /// `side` counts as [`NAMES`] does.
    pub(super) fn put(&mut self, side: usize, measured: Measured) {
        let sides = &mut self.sides;
        let places = [&mut sides.bare, &mut sides.ephemeral, &mut sides.durable];
        if let Some(place) = places.into_iter().nth(side) {
            *place = Some(measured);
        }
        let over = |a: Option<Measured>, b: Option<Measured>| {
            a.zip(b).map_or(0.0, |(a, b)| a.deliveries_per_cpu_s / b.deliveries_per_cpu_s)
        };
        self.ephemeral_over_bare = over(self.sides.ephemeral, self.sides.bare);
        self.durable_over_ephemeral = over(self.sides.durable, self.sides.ephemeral);
    }

    pub(super) fn line(&self) -> String {
        let sides = [self.sides.bare, self.sides.ephemeral, self.sides.durable];
        let told = NAMES.iter().zip(sides).filter_map(|(name, side)| {
            let side = side?;
            Some(format!("{name} {} (p99 {:.1} ms)", number(side.deliveries_per_cpu_s), side.p99_ms))
        });
        let (ephemeral, durable) = (self.ephemeral_over_bare, self.durable_over_ephemeral);
        format!(
            "{}, round {}: {}; ephemeral / bare {ephemeral:.2}, durable / ephemeral {durable:.2}",
            self.shape.words(),
            self.round,
            told.collect::<Vec<_>>().join(", ")
        )
    }
}

impl Summary {
    pub(super) fn new(duration: Duration, rounds: Vec<Round>) -> Self {
        let mut shapes = BTreeMap::new();
        for name in [Name::Wide, Name::Many, Name::Beyond] {
            let of: Vec<&Round> = rounds.iter().filter(|round| round.shape == name).collect();
            if let Some(shape) = Shape::of(&of) {
                shapes.insert(name, shape);
            }
        }
        Self { duration_s: duration.as_secs_f64(), shapes, rounds }
    }

    /// Rounds in which the bare writer did not keep up although it could. The hub writes several frames at once then, and each costs
    /// less: the ratio is better than it would be.
    fn behind(&self) -> usize {
        let behind = |round: &&Round| {
            round.shape != Name::Beyond && round.sides.bare.is_some_and(|bare| bare.p99_ms > BEHIND_MS)
        };
        self.rounds.iter().filter(behind).count()
    }
}

impl Shape {
    fn of(rounds: &[&Round]) -> Option<Shape> {
        if rounds.is_empty() {
            return None;
        }
        let side = |of: fn(&Sides) -> Option<Measured>| {
            Measured::median(&rounds.iter().filter_map(|round| of(&round.sides)).collect::<Vec<_>>())
        };
        let ratios = [|round: &Round| round.ephemeral_over_bare, |round: &Round| round.durable_over_ephemeral];
        let ratios = ratios.map(|of| rounds.iter().map(|round| of(round)).collect::<Vec<f64>>());
        let spread = |of: &[f64]| (of.iter().copied().fold(f64::MAX, f64::min), of.iter().copied().fold(0.0, f64::max));
        Some(Shape {
            bare: side(|sides| sides.bare),
            ephemeral: side(|sides| sides.ephemeral),
            durable: side(|sides| sides.durable),
            spread: [spread(&ratios[0]), spread(&ratios[1])],
            ephemeral_over_bare: median(ratios[0].clone()),
            durable_over_ephemeral: median(ratios[1].clone()),
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "bench";
    const MAIN: &'static str = "wide.ephemeral";

    fn ok(&self) -> bool {
        // A round in which something was missing has ended the run.
        true
    }

    fn verdict(&self) -> String {
        let told = "Every message of every round was delivered exactly";
        match self.behind() {
            0 => told.to_owned(),
            rounds => format!(
                "{told}, but in {rounds} rounds the bare writer fell behind: this machine is too busy for these ratios"
            ),
        }
    }

    fn lines(&self, lines: &mut Lines) {
        for (name, shape) in &self.shapes {
            let what = name.words();
            for (side, measured) in NAMES.iter().zip([shape.bare, shape.ephemeral, shape.durable]) {
                let (each, p50, p99) = (number(measured.deliveries_per_cpu_s), measured.p50_ms, measured.p99_ms);
                lines.say(
                    &format!("{what}: {side}"),
                    format_args!("{each} deliveries a CPU second, p50 {p50:.2} ms, p99 {p99:.2}"),
                );
            }
            let ratios = [
                ("ephemeral / bare", shape.ephemeral_over_bare),
                ("durable / ephemeral", shape.durable_over_ephemeral),
            ];
            for ((of, median), (least, most)) in ratios.into_iter().zip(shape.spread) {
                lines.say(
                    &format!("{what}: {of}"),
                    format_args!("{median:.2} (median of the rounds, {least:.2} to {most:.2})"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_one_round_and_the_median_of_all() {
        let measured = |deliveries_per_cpu_s| Measured { deliveries_per_cpu_s, p50_ms: 1.0, p99_ms: 2.0 };
        let rounds =
            [(100.0, 90.0, 81.0), (400.0, 400.0, 200.0), (200.0, 220.0, 220.0)].map(|(bare, ephemeral, durable)| {
                let mut round = Round::new(Name::Wide, 1);
                for (side, value) in [bare, ephemeral, durable].into_iter().enumerate() {
                    round.put(side, measured(value));
                }
                round
            });
        let summary = Summary::new(Duration::from_secs(5), rounds.to_vec());
        let shape = &summary.shapes[&Name::Wide];
        assert_eq!((shape.ephemeral_over_bare, shape.durable_over_ephemeral), (1.0, 0.9));
        assert_eq!(shape.bare.deliveries_per_cpu_s, 200.0);
        let json = serde_json::to_value(&summary).expect("JSON");
        assert_eq!(json["wide"]["ephemeral_over_bare"], 1.0, "a threshold finds it there");
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < 1e-9);
    }
}
