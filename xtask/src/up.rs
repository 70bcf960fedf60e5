//! PostgreSQL, Redis and ClickHouse for a person who tries things out. They outlive the task; `down` ends them by their
//! pids. On the loopback, without secrets worth the name: not for anything that matters.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::kept::Identity;
use crate::postgres::{self, free_port};
use crate::{clickhouse, command, packages};

const WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const DATABASE: &str = "bowline";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where their data and logs are, and stay [default: /var/tmp/bowline-up-UID]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct DownOptions {
    #[command(flatten)]
    place: Options,
    /// Remove their data too
    #[arg(long)]
    remove: bool,
}

/// One server: a folder with its data, its log, its port and its pid.
struct Service {
    name: &'static str,
    folder: PathBuf,
    owner: Identity,
    /// The signal by which it ends in order.
    ends_by: &'static str,
}

pub(crate) fn up(options: &Options) -> anyhow::Result<()> {
    packages::install()?;
    let [postgres, redis, clickhouse] = services(options)?;
    let database_port = postgres.start(|folder, port, new| {
        if new {
            postgres::init(folder, postgres.owner)?;
        }
        postgres::serve(folder, port)
    })?;
    postgres::wait(&postgres.folder, postgres.pid().context("it has ended")?)?;
    let redis_port = redis.start(|folder, port, _| {
        let mut serve = Command::new(packages::find("redis-server").context("no Redis is installed")?);
        serve.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
        Ok(serve)
    })?;
    redis.wait_for_port(redis_port)?;
    let home = clickhouse::install()?;
    let clickhouse_port = clickhouse.start(|folder, port, _| clickhouse::serve(&home, folder, port))?;
    clickhouse::wait(&clickhouse.folder, clickhouse_port)?;
    clickhouse::create_database(clickhouse_port, DATABASE)?;
    println!("export DATABASE_URL={}", postgres::url(database_port));
    println!("export REDIS_URL=redis://127.0.0.1:{redis_port}");
    println!("export CLICKHOUSE_URL={}/{DATABASE}", clickhouse::url(clickhouse_port));
    eprintln!("Their data is in {}; `cargo xtask down` ends them.", place(options)?.display());
    Ok(())
}

pub(crate) fn down(options: &DownOptions) -> anyhow::Result<()> {
    for service in services(&options.place)?.iter().rev() {
        service.stop()?;
    }
    if options.remove {
        fs::remove_dir_all(place(&options.place)?)?;
    }
    Ok(())
}

fn services(options: &Options) -> anyhow::Result<[Service; 3]> {
    let dir = place(options)?;
    // For all to pass; each service's own folder is its owner's.
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
    let dir = dir.canonicalize()?;
    let service = |name, owner, ends_by| Service { name, folder: dir.join(name), owner, ends_by };
    Ok([
        service("postgres", postgres::owner()?, "INT"),
        service("redis", None, "TERM"),
        service("clickhouse", None, "TERM"),
    ])
}

fn place(options: &Options) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &options.dir {
        return Ok(dir.clone());
    }
    let user = command::output(Command::new("id").arg("-u"))?;
    Ok(PathBuf::from(format!("/var/tmp/bowline-up-{}", user.trim())))
}

impl Service {
    /// Starts what `serve` makes for the folder and a port, unless it runs; the third is whether the folder is new. The port
    /// stays the same as long as the folder is there.
    fn start(&self, serve: impl FnOnce(&Path, u16, bool) -> anyhow::Result<Command>) -> anyhow::Result<u16> {
        let new = !self.folder.join("port").is_file();
        if new {
            // An attempt that did not come to its end.
            self.stop()?;
            if self.folder.exists() {
                fs::remove_dir_all(&self.folder)?;
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            if let Some((user, group)) = self.owner {
                chown(&self.folder, Some(user), Some(group))?;
            }
        }
        let port = if new { free_port()? } else { self.read("port")? };
        if self.pid().is_some() {
            return Ok(port);
        }
        let serve = serve(&self.folder, port, new).with_context(|| self.name)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("server.log"))?;
        // A session of its own, so that the end of the terminal is not its end.
        let mut detached = Command::new("setsid");
        detached.arg(serve.get_program()).args(serve.get_args()).current_dir(&self.folder);
        detached.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some((user, group)) = self.owner {
            detached.uid(user).gid(group);
        }
        let pid = detached.spawn().with_context(|| format!("{} can't be started", self.name))?.id();
        fs::write(self.folder.join("pid"), pid.to_string())?;
        // Written last: a folder without it is not finished.
        fs::write(self.folder.join("port"), port.to_string())?;
        Ok(port)
    }

    /// If it runs. A pid that another program has by now is not meant.
    fn pid(&self) -> Option<u32> {
        let pid: u32 = self.read("pid").ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let folder = self.folder.as_os_str().as_encoded_bytes();
        // Redis puts a title in place of its arguments.
        let ours = line.windows(folder.len()).any(|part| part == folder)
            || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.folder);
        ours.then_some(pid)
    }

    fn stop(&self) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        command::run(Command::new("kill").args(["-s", self.ends_by, &pid.to_string()]))?;
        let start = Instant::now();
        while self.pid().is_some() {
            if start.elapsed() > WAIT {
                bail!("{} (pid {pid}) does not end", self.name);
            }
            std::thread::sleep(LOOK);
        }
        Ok(fs::remove_file(self.folder.join("pid"))?)
    }

    fn wait_for_port(&self, port: u16) -> anyhow::Result<()> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > WAIT {
                let log = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
                bail!("{} does not start:\n{log}", self.name);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn read<T: std::str::FromStr<Err = std::num::ParseIntError>>(&self, file: &str) -> anyhow::Result<T> {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        text.trim().parse().with_context(|| path.display().to_string())
    }
}
