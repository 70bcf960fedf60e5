use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, User, geteuid};

const DEFAULT_DIR: &str = "bowline-data";
const DEFAULT_DIR_OF_ROOT: &str = "/var/lib/bowline";

/// As whom PostgreSQL runs. It refuses root, so root gives it another user.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    Same,
    Other { name: String, uid: Uid, gid: Gid },
}

impl Owner {
    pub(super) fn of_this_process() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Owner::Same);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).with_context(|| format!("looking up the user `{name}`"))? {
                return Ok(Owner::Other { name: user.name, uid: user.uid, gid: user.gid });
            }
        }
        bail!(
            "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`: \
             run bowline as another user, or set DATABASE_URL"
        )
    }

    /// The data directory, created if need be: the one that was asked for, or the default.
    pub(super) fn data_dir(&self, asked: Option<&Path>) -> anyhow::Result<PathBuf> {
        let path = match asked {
            Some(path) => path.to_owned(),
            None => self.default_dir()?,
        };
        // Others pass through to their own part of it, and see nothing else.
        let mode = if matches!(self, Owner::Same) { 0o700 } else { 0o711 };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .with_context(|| format!("creating the data directory {}", path.display()))?;
        path.canonicalize().with_context(|| format!("the data directory {}", path.display()))
    }

    /// Checks that PostgreSQL can get to a path: else it fails with a bare "permission denied".
    pub(super) fn check_reach(&self, path: &Path) -> anyhow::Result<()> {
        let Owner::Other { name, .. } = self else { return Ok(()) };
        match self.first_closed(path)? {
            None => Ok(()),
            Some(closed) => bail!(
                "{} can't be entered by the user `{name}`, as whom PostgreSQL runs when bowline is started by root; \
                 {} lies behind it. Use --data-dir {DEFAULT_DIR_OF_ROOT}, run bowline as another user, \
                 or set DATABASE_URL",
                closed.display(),
                path.display(),
            ),
        }
    }

    /// Whether PostgreSQL can get to this path.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        self.first_closed(path).is_ok_and(|closed| closed.is_none())
    }

    pub(super) fn give(&self, path: &Path) -> anyhow::Result<()> {
        match self {
            Owner::Same => Ok(()),
            Owner::Other { uid, gid, .. } => chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                .with_context(|| format!("giving {} to PostgreSQL's user", path.display())),
        }
    }

    pub(super) fn uid(&self) -> Uid {
        match self {
            Owner::Same => geteuid(),
            Owner::Other { uid, .. } => *uid,
        }
    }

    /// Root's own folders are often closed to others.
    fn default_dir(&self) -> anyhow::Result<PathBuf> {
        let here = std::env::current_dir().context("the working directory")?;
        match self {
            Owner::Other { .. } if self.first_closed(&here)?.is_some() => Ok(DEFAULT_DIR_OF_ROOT.into()),
            _ => Ok(here.join(DEFAULT_DIR)),
        }
    }

    fn first_closed(&self, path: &Path) -> anyhow::Result<Option<PathBuf>> {
        let Owner::Other { uid, gid, .. } = self else { return Ok(None) };
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let entry = fs::metadata(folder).with_context(|| format!("looking at {}", folder.display()))?;
            let bit = match () {
                () if entry.uid() == uid.as_raw() => 0o100,
                () if entry.gid() == gid.as_raw() => 0o010,
                () => 0o001,
            };
            if entry.is_dir() && entry.mode() & bit == 0 {
                return Ok(Some(folder.to_owned()));
            }
        }
        Ok(None)
    }
}
