//! A private ClickHouse, from the recipe in `testkit/clickhouse`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::kept::Kept;
use crate::postgres::{Files, folder, free_port};
use crate::{command, root};

const WAIT: Duration = Duration::from_secs(60);
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Ends with the task, however that ends.
pub(crate) struct ClickHouse {
    process: Kept,
    port: u16,
}

impl ClickHouse {
    pub(crate) fn start() -> anyhow::Result<ClickHouse> {
        let home = install()?;
        let folder = folder(None, Files::OnDisk)?;
        let port = free_port()?;
        let started = serve(&home, &folder, port).and_then(|serve| {
            let process = Kept::start(&serve, None, "TERM", &folder.join("server.log"), Some(&folder))?;
            wait(&folder, port)?;
            Ok(ClickHouse { process, port })
        });
        if started.is_err() {
            fs::remove_dir_all(&folder)?;
        }
        started
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

/// Fetches it where it is not there yet; the folder that it is kept in.
pub(crate) fn install() -> anyhow::Result<PathBuf> {
    let mut install = Command::new("sh");
    install.arg(recipe().join("install.sh")).stderr(Stdio::inherit());
    Ok(PathBuf::from(command::output(&mut install)?.trim()))
}

/// What serves the files in `data` of a folder.
pub(crate) fn serve(home: &Path, folder: &Path, port: u16) -> anyhow::Result<Command> {
    for file in ["config.xml", "users.xml"] {
        fs::copy(recipe().join(file), folder.join(file)).with_context(|| format!("copying {file}"))?;
    }
    let mut serve = Command::new(home.join("server"));
    serve.arg(home.join("library")).arg(folder.join("data")).arg(port.to_string()).arg(folder.join("config.xml"));
    Ok(serve)
}

/// Without a database.
pub(crate) fn url(port: u16) -> String {
    format!("http://bowline:secret@127.0.0.1:{port}")
}

/// Until it answers.
pub(crate) fn wait(folder: &Path, port: u16) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < WAIT {
        if ask(port, "GET /ping").is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    bail!("ClickHouse does not start:\n{log}")
}

pub(crate) fn create_database(port: u16, name: &str) -> anyhow::Result<()> {
    ask(port, &format!("POST /?user=bowline&password=secret&query=CREATE+DATABASE+IF+NOT+EXISTS+{name}"))
}

fn ask(port: u16, request: &str) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    write!(stream, "{request} HTTP/1.0\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.split_whitespace().nth(1) == Some("200"), "{answer}");
    Ok(())
}

fn recipe() -> PathBuf {
    root().join("testkit/clickhouse")
}
