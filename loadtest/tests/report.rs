//! A whole run of the program, short, against its own bare writer: what it writes, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bowline-loadtest");
const SECRET: &str = "a secret that no report may tell";

/// A server of topics, ended with this value; and a folder, removed with it.
struct Bed {
    server: Child,
    url: String,
    folder: PathBuf,
}

impl Bed {
    fn make() -> Self {
        let mut server = Command::new(PROGRAM)
            .arg("bare")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut address = String::new();
        BufReader::new(server.stdout.take().expect("its output")).read_line(&mut address).expect("where it listens");
        let folder = std::env::temp_dir().join(format!("bowline-report-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a new folder");
        Bed { server, url: format!("http://{}", address.trim()), folder }
    }

    fn run(&self, more: &[&str]) -> Output {
        let fanout =
            ["fanout", "--topics", "2", "--readers", "5", "-r", "50", "-d", "2s", "--seed", "7", "--timeout", "60s"];
        let mut run = Command::new(PROGRAM);
        run.args(fanout).args(["--url", &self.url, "--token-secret", SECRET]);
        run.args(["--pid", &self.server.id().to_string()]).args(more).current_dir(&self.folder);
        run.output().expect("the program runs")
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(Path::new(&self.folder).join(file)).expect("it was written")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_run_tells_its_result_everywhere_and_its_exit_code_is_the_verdict() {
    let bed = Bed::make();
    let files = ["--report", "r.html", "--json", "r.json", "--save-baseline", "b.json"];
    let good = bed.run(&[&files[..], &["-o", "json", "--threshold", "lost<=0", "--threshold", "p99<10min"]].concat());
    // `10min` is no unit of a threshold.
    assert_eq!(good.status.code(), Some(2), "{good:?}");
    let good = bed.run(&[&files[..], &["-o", "json", "--threshold", "lost<=0", "--threshold", "p99<600s"]].concat());
    assert_eq!(good.status.code(), Some(0), "{good:?}");

    let told: serde_json::Value = serde_json::from_slice(&good.stdout).expect("JSON");
    let written: serde_json::Value = serde_json::from_str(&bed.read("r.json")).expect("JSON");
    assert_eq!(told, written);
    assert_eq!((&told["scenario"], &told["ok"]), (&"fanout".into(), &true.into()));
    assert_eq!((&told["deliveries"], &told["lost"]), (&500.into(), &0.into()), "100 messages to 5 readers each");
    let series = told["timeline"]["series"].as_array().expect("series");
    for name in ["delivered", "PSS", "this tool", "delivery p99"] {
        assert!(series.iter().any(|series| series["name"] == name), "{name}");
    }

    let page = bed.read("r.html");
    for text in ["Passed", "kept", "600,000 ms", "fanout --topics 2", "--token-secret SECRET", "delivery p99"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(![&page, &bed.read("r.json"), &bed.read("b.json")].iter().any(|text| text.contains(SECRET)));

    let missed = bed.run(&["--threshold", "p99<0.001us", "--baseline", "b.json", "--report", "r.html"]);
    assert_eq!(missed.status.code(), Some(1), "{missed:?}");
    let said = String::from_utf8_lossy(&missed.stdout).into_owned();
    assert!(said.contains("MISSED") && said.contains("A threshold is missed: send_to_deliver.p99_ms"), "{said}");
    let page = bed.read("r.html");
    assert!(page.contains("Failed") && page.contains("Against the baseline"));

    // A baseline that was so much better that this run is worse, whatever the machine does.
    let better = bed.read("b.json").replace("\"deliveries_per_s\": 250.0", "\"deliveries_per_s\": 250000.0");
    std::fs::write(bed.folder.join("better.json"), better).expect("written");
    let worse = bed.run(&["--baseline", "better.json", "--fail-on-regression", "50%"]);
    assert_eq!(worse.status.code(), Some(1), "{worse:?}");
    assert!(String::from_utf8_lossy(&worse.stdout).contains("WORSE"));
}
