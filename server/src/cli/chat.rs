use super::run;
use crate::chat::{self, Args};

/// Runs the terminal client until its input ends.
pub fn chat(args: Args) -> anyhow::Result<()> {
    run::runtime()?.block_on(chat::run(args))
}
