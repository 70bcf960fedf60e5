//! One server in a pod: how little memory holds how many sockets, with the kernel's part counted, and all of them cut and back
//! at once. PostgreSQL and the load tool stay outside.

use anyhow::bail;

use crate::bed::{self, Bed};
use crate::nodes::Place;
use crate::pod::Pod;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The pod's memory.
    #[arg(long, default_value_t = 64)]
    limit_mib: u64,
    #[arg(long, default_value_t = 10_000)]
    sockets: u32,
    /// How long messages flow to the sockets that wait.
    #[arg(long, default_value = "30s")]
    duration: String,
    /// Without the storm.
    #[arg(long)]
    idle_only: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    bed::build()?;
    let pod = Pod::make(options.limit_mib)?;
    let bed = Bed::make(1, &Place { settings: &[], pod: Some(&pod) })?;
    let held = squeeze(options, &pod, &bed);
    // What was charged says more than that a server has gone.
    let shown = show(&pod, &bed, "at the end");
    bed.end()?;
    drop(pod);
    shown?;
    match held? {
        true => Ok(()),
        false => bail!("the load tool saw what must not be"),
    }
}

fn squeeze(options: &Options, pod: &Pod, bed: &Bed) -> anyhow::Result<bool> {
    show(pod, bed, "before the first socket")?;
    let sockets = options.sockets.to_string();
    println!("== {sockets} sockets that wait, in {} MiB", options.limit_mib);
    let mut held = within(pod, options, bed, &["idle", "-c", &sockets, "-d", &options.duration])?;
    show(pod, bed, "after the sockets that wait")?;
    if !options.idle_only {
        println!("== all cut, all back");
        held &= within(pod, options, bed, &["storm", "-c", &sockets])?;
    }
    Ok(held)
}

/// Whether the load was good and the pod's limit was enough for all that was charged at any one moment of it. What comes after
/// it is told apart: the load tool ends, and all its sockets close in the same fifth of a second, each with a page for
/// its goodbye.
fn within(pod: &Pod, options: &Options, bed: &Bed, load: &[&str]) -> anyhow::Result<bool> {
    let result = std::env::temp_dir().join(format!("bowline-pod-{}.json", std::process::id()));
    let written = result.to_string_lossy();
    let (good, [most, leaving]) = pod.most(&result, || bed.load(&[load, &["--json", &written]].concat()));
    let _ = std::fs::remove_file(&result);
    let fits = most <= options.limit_mib << 20;
    let verdict = if fits { "fits" } else { "does NOT fit" };
    let (most, leaving) = (mib(most), mib(leaving));
    println!("pod meanwhile: {most:.1} MiB at the most at one moment, TCP buffers included: {verdict}");
    println!("pod while all sockets closed at the load tool's end: {leaving:.1} MiB");
    Ok(good? && fits)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn show(pod: &Pod, bed: &Bed, when: &str) -> anyhow::Result<()> {
    let charged = pod.charged()?;
    let rss = bed.nodes.pids().iter().filter_map(|pid| bed::status_kib(*pid, "VmRSS")).sum::<u64>() as f64 / 1024.0;
    let apart =
        charged.tcp_peak.map_or(String::new(), |tcp| format!(" (and, counted apart, {:.1} of TCP buffers)", mib(tcp)));
    println!(
        "pod {when}: {:.1} MiB charged, {:.1} of it the kernel's, peak {:.1}{apart}; RSS of the server {rss:.1}; limit met {} times, {} killed",
        mib(charged.used),
        mib(charged.kernel),
        mib(charged.peak),
        charged.failed,
        charged.killed,
    );
    Ok(())
}
