use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(20);

/// What becomes of a request over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered.
    None,
    /// It is taken and reaches nobody; the connection stays.
    Hang,
    /// Its answer comes a byte at a time.
    Drip,
    /// Its connection is reset before it reaches anybody.
    Reset,
    /// It is answered with an error of the server, and reaches nobody.
    Error,
    /// Its answer comes so much later.
    Late(Duration),
    /// It is done, and the connection is cut as its answer comes.
    CutAtAnswer,
    /// It is done, its answer is kept back, and the server does not hear that the client has gone.
    Unheard,
}

/// Stands before an HTTP server, and does to requests what the test says.
#[derive(Debug)]
pub struct FaultProxy {
    url: String,
    orders: Arc<Orders>,
}

#[derive(Debug)]
struct Orders {
    /// The first whose text is in the first bytes of a request counts; where there is none, it passes.
    rules: Mutex<Vec<(String, Fault)>>,
    struck: AtomicUsize,
}

impl FaultProxy {
    /// Before the server of this URL, on a port of its own.
    pub async fn start(url: &str) -> Self {
        let (_, rest) = url.split_once("://").expect("an http URL");
        let authority = rest.split('/').next().unwrap_or_default();
        let target = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned();
        let server: SocketAddr = target.parse().expect("an address with a port in the URL");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mine = listener.local_addr().expect("bound").to_string();
        let orders = Arc::new(Orders { rules: Mutex::default(), struck: AtomicUsize::new(0) });
        let given = orders.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, given.clone()));
            }
        });
        Self { url: url.replacen(&target, &mine, 1), orders }
    }

    /// That of the server, through this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What happens to all requests from here on.
    pub fn set(&self, fault: Fault) {
        self.set_for(&[("", fault)]);
    }

    /// What happens from here on to requests whose first line or headers contain a text: the first that fits counts. The
    /// others pass.
    pub fn set_for(&self, rules: &[(&str, Fault)]) {
        let rules = rules.iter().map(|(text, fault)| ((*text).to_owned(), *fault)).collect();
        *self.orders.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Requests to which something was done.
    pub fn struck(&self) -> usize {
        self.orders.struck.load(Ordering::SeqCst)
    }
}

impl Orders {
    fn for_request(&self, bytes: &[u8]) -> Fault {
        let has = |text: &str| text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = rules.iter().find(|(text, _)| has(text)).map_or(Fault::None, |(_, fault)| *fault);
        if fault != Fault::None {
            self.struck.fetch_add(1, Ordering::SeqCst);
        }
        fault
    }
}

/// Until one of the two ends it.
async fn carry(mut client: TcpStream, server: SocketAddr, orders: Arc<Orders>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let mut fault = Fault::None;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else {
                    if fault == Fault::Unheard {
                        while let Ok(1..) = server.read(&mut answered).await {}
                    }
                    return;
                };
                if [&b"POST "[..], b"GET "].iter().any(|method| asked[..length].starts_with(method)) {
                    fault = orders.for_request(&asked[..length]);
                }
                match fault {
                    Fault::Hang => {}
                    Fault::Reset => {
                        let _ = client.set_zero_linger();
                        return;
                    }
                    Fault::Error => {
                        let _ = client.write_all(ERROR).await;
                        return;
                    }
                    _ if server.write_all(&asked[..length]).await.is_err() => return,
                    _ => {}
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                match fault {
                    Fault::CutAtAnswer => return,
                    Fault::Drip => {
                        for byte in &answered[..length] {
                            if client.write_all(&[*byte]).await.is_err() {
                                return;
                            }
                            tokio::time::sleep(DRIP).await;
                        }
                        continue;
                    }
                    Fault::Unheard => continue,
                    Fault::Late(time) => tokio::time::sleep(time).await,
                    _ => {}
                }
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nX-ClickHouse-Exception-Code: 241\r\n\
Content-Length: 47\r\n\r\nCode: 241. DB::Exception: MEMORY_LIMIT_EXCEEDED";
