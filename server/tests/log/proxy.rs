use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Config;

/// What happens to the answers of the database.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answers {
    Pass,
    /// The connection is cut as soon as an answer to a statement on the log comes.
    Cut,
    /// They are not delivered, and the connection stays.
    Keep,
}

/// Stands between a node and the database, and loses answers on demand.
pub(crate) struct Proxy {
    pub(crate) url: String,
    answers: Arc<AtomicU8>,
}

impl Proxy {
    pub(crate) async fn start(url: &str) -> Self {
        let target: Config = url.parse().unwrap();
        let port = target.get_ports()[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mine = listener.local_addr().unwrap();
        let answers = Arc::new(AtomicU8::new(Answers::Pass as u8));
        let seen = answers.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                tokio::spawn(carry(client, server, seen.clone()));
            }
        });
        Self { url: url.replace(&format!("127.0.0.1:{port}"), &mine.to_string()), answers }
    }

    pub(crate) fn answers(&self, answers: Answers) {
        self.answers.store(answers as u8, Ordering::SeqCst);
    }
}

/// Requests pass always: whatever was asked is done.
async fn carry(client: TcpStream, server: TcpStream, answers: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
        let mode = answers.load(Ordering::SeqCst);
        if mode == Answers::Cut as u8 {
            break;
        }
        if mode == Answers::Pass as u8 && to_client.write_all(&bytes[..length]).await.is_err() {
            break;
        }
    }
    requests.abort();
}
