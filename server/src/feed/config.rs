use serde::{Deserialize, Serialize};

use super::ranking::Weights;
use super::{breaker, budget, bulkhead, cache};
use crate::config::Invalid;

/// How feeds are made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub ranking: Weights,
    pub budget: budget::Config,
    pub breaker: breaker::Config,
    pub cache: cache::Config,
    pub fallback: bulkhead::Config,
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let sections = [
            ("ranking", self.ranking.validate()),
            ("budget", self.budget.validate()),
            ("breaker", self.breaker.validate()),
            ("cache", self.cache.validate()),
            ("fallback", self.fallback.validate()),
        ];
        sections.into_iter().flat_map(|(section, found)| found.into_iter().map(move |f| f.under(section))).collect()
    }
}
