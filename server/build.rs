//! Lists the migrations, so that the binary carries them.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    list("postgres", "migrations.rs")?;
    list("clickhouse", "clickhouse_migrations.rs")
}

fn list(of: &str, into: &str) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(of);
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.retain(|name| name.ends_with(".sql"));
    names.sort();
    let files: String =
        names.iter().map(|name| format!("    ({name:?}, include_str!({:?})),\n", folder.join(name))).collect();
    let list = Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join(into);
    fs::write(list, format!("&[\n{files}]\n"))
}
