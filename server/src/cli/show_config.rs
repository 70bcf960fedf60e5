use super::SourceArgs;

/// Prints the configuration in force as a file that could be given back, each value with where it came from.
pub fn show_config(sources: &SourceArgs) -> anyhow::Result<()> {
    print!("{}", sources.load(Vec::new())?.describe());
    Ok(())
}
