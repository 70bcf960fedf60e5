use std::fs::{self, File, OpenOptions};
use std::future::ready;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowline_protocol::{ClientId, wire};
use serde::{Deserialize, Serialize};

use super::{Kept, Outbox, full};

/// A file that only grows while it is open, synced at every message taken, so that a message survives the process and the
/// machine. One line of JSON a fact; a torn last line is one that was never taken. One process at a time.
#[derive(Debug)]
pub struct FileOutbox {
    path: PathBuf,
    file: Arc<File>,
    capacity: usize,
    waiting: Vec<wire::Send>,
    /// Facts of the file that no longer matter.
    spent: usize,
}

/// Facts that no longer matter before the file is written anew.
const SPENT_LINES: usize = 512;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fact {
    Put(wire::Send),
    Settled(ClientId),
}

impl FileOutbox {
    /// Opens or makes the file, and takes at most `capacity` messages at a time. An error of the kind `WouldBlock` means
    /// that another process has it. Blocks for as long as the disk takes.
    pub fn open(path: impl Into<PathBuf>, capacity: usize) -> io::Result<Self> {
        let path = path.into();
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        file.try_lock()?;
        let waiting = replay(&fs::read(&path)?)?;
        let mut outbox = Self { path, file: Arc::new(file), capacity, waiting, spent: 0 };
        outbox.rewrite()?;
        Ok(outbox)
    }

    /// Replaces the file by one that holds only what waits.
    fn rewrite(&mut self) -> io::Result<()> {
        let next = self.path.with_extension("next");
        let file = OpenOptions::new().read(true).append(true).create(true).open(&next)?;
        file.try_lock()?;
        file.set_len(0)?;
        let mut lines = Vec::new();
        for send in &self.waiting {
            lines.extend(line(&Fact::Put(send.clone()))?);
        }
        (&file).write_all(&lines)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        sync_parent(&self.path)?;
        self.file = Arc::new(file);
        self.spent = 0;
        Ok(())
    }
}

impl Outbox for FileOutbox {
    fn load(&mut self) -> Kept<'_, Vec<wire::Send>> {
        Box::pin(ready(Ok(self.waiting.clone())))
    }

    fn put<'a>(&'a mut self, send: &'a wire::Send) -> Kept<'a, ()> {
        Box::pin(async move {
            if self.waiting.len() >= self.capacity {
                return Err(full(self.capacity));
            }
            let line = line(&Fact::Put(send.clone()))?;
            let file = Arc::clone(&self.file);
            let write = move || (&*file).write_all(&line).and_then(|()| file.sync_data());
            tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
            self.waiting.push(send.clone());
            Ok(())
        })
    }

    fn settle(&mut self, client_id: ClientId) -> Kept<'_, ()> {
        let Some(at) = self.waiting.iter().position(|s| s.client_id == client_id.0.as_bytes()) else {
            return Box::pin(ready(Ok(())));
        };
        self.waiting.remove(at);
        self.spent += 2;
        // Not synced: a settled message that comes back is found to be stored already.
        let written = line(&Fact::Settled(client_id)).and_then(|line| (&*self.file).write_all(&line));
        let done = written.and_then(|()| if self.spent >= SPENT_LINES { self.rewrite() } else { Ok(()) });
        Box::pin(ready(done))
    }
}

fn line(fact: &Fact) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(fact)?;
    line.push(b'\n');
    Ok(line)
}

fn replay(bytes: &[u8]) -> io::Result<Vec<wire::Send>> {
    let mut waiting: Vec<wire::Send> = Vec::new();
    // What follows the last line break is torn, maybe in the middle of a character.
    let mut lines: Vec<_> = bytes.split(|b| *b == b'\n').collect();
    lines.pop();
    for line in lines {
        match serde_json::from_slice(line)? {
            Fact::Put(send) => waiting.push(send),
            Fact::Settled(client_id) => waiting.retain(|send| send.client_id != client_id.0.as_bytes()),
        }
    }
    Ok(waiting)
}

/// A rename is kept only once its folder is.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("bowline-outbox-{}", Uuid::now_v7()));
            fs::create_dir(&path).expect("a folder of its own");
            Self(path)
        }

        fn open(&self) -> io::Result<FileOutbox> {
            FileOutbox::open(self.0.join("outbox"), 100)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn send(n: u128) -> wire::Send {
        let client_id = Uuid::from_u128(n).as_bytes().to_vec();
        wire::Send { log_id: vec![1; 16], client_id, body: format!("line\n{n} \"ü\""), ..Default::default() }
    }

    fn settled(n: u128) -> ClientId {
        ClientId(Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn what_was_not_settled_is_there_again_in_its_order() {
        let folder = Folder::new();
        let mut outbox = folder.open().expect("open");
        for n in 1..=4 {
            outbox.put(&send(n)).await.expect("put");
        }
        outbox.settle(settled(2)).await.expect("settle");
        drop(outbox);
        let mut again = folder.open().expect("open again");
        assert_eq!(again.load().await.expect("load"), [send(1), send(3), send(4)]);
        again.settle(settled(1)).await.expect("settle");
        drop(again);
        assert_eq!(folder.open().expect("a third time").load().await.expect("load"), [send(3), send(4)]);
    }

    #[tokio::test]
    async fn a_torn_last_line_was_never_taken() {
        let folder = Folder::new();
        let mut outbox = folder.open().expect("open");
        outbox.put(&send(1)).await.expect("put");
        outbox.put(&send(2)).await.expect("put");
        drop(outbox);
        let path = folder.0.join("outbox");
        let whole = fs::read(&path).expect("read");
        for length in whole.len() / 2 + 1..whole.len() {
            fs::write(&path, &whole[..length]).expect("tear");
            assert_eq!(folder.open().expect("open").load().await.expect("load"), [send(1)], "cut at {length}");
        }
    }

    #[tokio::test]
    async fn it_stays_small_and_bounded_and_belongs_to_one() {
        let folder = Folder::new();
        let mut outbox = folder.open().expect("open");
        assert_eq!(folder.open().expect_err("taken").kind(), io::ErrorKind::WouldBlock);
        for n in 0..SPENT_LINES as u128 {
            outbox.put(&send(n)).await.expect("put");
            outbox.settle(settled(n)).await.expect("settle");
        }
        assert!(fs::metadata(folder.0.join("outbox")).expect("there").len() < 100_000);
        assert_eq!(folder.open().expect_err("still taken").kind(), io::ErrorKind::WouldBlock);
        for n in 0..100 {
            outbox.put(&send(n)).await.expect("put");
        }
        assert_eq!(outbox.put(&send(100)).await.expect_err("full").kind(), io::ErrorKind::StorageFull);
    }
}
