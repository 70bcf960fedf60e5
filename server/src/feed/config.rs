use serde::{Deserialize, Serialize};

use super::ranking::Weights;
use crate::config::Invalid;

/// How feeds are made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub ranking: Weights,
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let sections = [("ranking", self.ranking.validate())];
        sections.into_iter().flat_map(|(section, found)| found.into_iter().map(move |f| f.under(section))).collect()
    }
}
