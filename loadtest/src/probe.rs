//! What the disk itself takes to make a small write durable, measured while the run goes on: the yardstick of a send.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use uuid::Uuid;

use crate::times::{Percentiles, Times};

/// A thread that writes and syncs until it is stopped.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    times: Arc<Times>,
    thread: JoinHandle<()>,
}

/// Written over and over, as a write-ahead log's recycled segment is.
const FILE_BYTES: usize = 4 * 1024 * 1024;
const WRITE_BYTES: usize = 8 * 1024;
const EVERY: Duration = Duration::from_millis(20);

impl Probe {
    /// `folder` is on the disk to be measured.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(format!("bowline-loadtest-{}", Uuid::new_v4().simple()));
        let file = File::create_new(&path).with_context(|| format!("--probe-dir: {}", path.display()))?;
        // Unlinked at once, so that it goes away however the run ends.
        fs::remove_file(&path)?;
        file.write_all_at(&vec![0; FILE_BYTES], 0)?;
        file.sync_all()?;
        let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(Times::new()));
        let (stopped, taken) = (Arc::clone(&stop), Arc::clone(&times));
        let thread = thread::spawn(move || measure(&file, &stopped, &taken));
        Ok(Self { stop, times, thread })
    }

    pub(crate) fn times(&self) -> Arc<Times> {
        Arc::clone(&self.times)
    }

    pub(crate) fn stop(self) -> Percentiles {
        self.stop.store(true, Ordering::Relaxed);
        // A probe that failed has recorded less; the count shows it.
        let _ = self.thread.join();
        self.times.percentiles()
    }
}

fn measure(file: &File, stop: &AtomicBool, times: &Times) {
    let mut offset = 0;
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        let written = file.write_all_at(&[1; WRITE_BYTES], offset).and_then(|()| file.sync_data());
        if written.is_err() {
            return;
        }
        times.record(since.elapsed());
        offset = (offset + WRITE_BYTES as u64) % FILE_BYTES as u64;
        thread::sleep(EVERY);
    }
}
