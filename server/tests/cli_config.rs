//! What the binary says about its configuration: everything wrong at once, by name, before anything is bound.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use uuid::Uuid;

struct Run<'a> {
    file: Option<&'a str>,
    environment: &'a [(&'a str, &'a str)],
    arguments: &'a [&'a str],
}

const NOTHING: Run<'static> = Run { file: None, environment: &[], arguments: &[] };

fn run(command: &str, run: &Run<'_>) -> Output {
    let mut bowline = Command::new(env!("CARGO_BIN_EXE_bowline"));
    let ours =
        |name: &str| ["BOWLINE_", "CLICKHOUSE_", "DATABASE_", "REDIS_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        bowline.env_remove(name);
    }
    let path: PathBuf = std::env::temp_dir().join(format!("{}.toml", Uuid::now_v7()));
    if let Some(text) = run.file {
        fs::write(&path, text).unwrap();
        bowline.arg("--config").arg(&path);
    }
    bowline.arg(command).args(run.arguments).envs(run.environment.iter().copied());
    let output = bowline.output().unwrap();
    let _ = fs::remove_file(path);
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_value_is_refused_with_its_key_the_value_and_what_is_allowed() {
    let cases: &[(Run<'_>, &[&str])] = &[
        (
            Run { file: Some("[database]\nmax_connections = \"many\""), ..NOTHING },
            &["database.max_connections = \"many\"", ".toml", "a whole number"],
        ),
        (
            Run { environment: &[("DATABASE_MAX_CONNECTIONS", "0")], ..NOTHING },
            &["database.max_connections = 0", "DATABASE_MAX_CONNECTIONS", "from 2 to 500"],
        ),
        (
            Run { environment: &[("BOWLINE_DATABASE_MAX_CONNECTIONS", "-3")], ..NOTHING },
            &["database.max_connections = -3", "BOWLINE_DATABASE_MAX_CONNECTIONS", "not negative"],
        ),
        (
            Run { environment: &[("DATABASE_URL", "mysql://root:hunter2@db/x")], ..NOTHING },
            &["database.url = (hidden)", "DATABASE_URL", "postgres://"],
        ),
        (
            Run { environment: &[("REDIS_URL", "rediss://root:hunter2@cache")], ..NOTHING },
            &["redis.url = (hidden)", "REDIS_URL", "redis://"],
        ),
        (
            Run { arguments: &["--set", "feed.ranking.half_life_h=0"], ..NOTHING },
            &["feed.ranking.half_life_h = 0", "--set", "a number from 0.001"],
        ),
        (
            Run { environment: &[("CLICKHOUSE_URL", "https://bowline:hunter2@db:8443/bowline")], ..NOTHING },
            &["clickhouse.url = (hidden)", "CLICKHOUSE_URL", "http://"],
        ),
        (
            Run { file: Some("[clickhouse]\nmax_in_flight = 0"), ..NOTHING },
            &["clickhouse.max_in_flight = 0", "from 1 to 1000"],
        ),
        (
            Run { file: Some("[http]\nlisten = \"everywhere\""), ..NOTHING },
            &["http.listen = \"everywhere\"", "an address with a port, such as 127.0.0.1:8080"],
        ),
        (
            Run { arguments: &["--set", "logging.format=xml"], ..NOTHING },
            &["logging.format = \"xml\"", "--set", "`text`", "`json`"],
        ),
        (
            Run { arguments: &["--set", "logging.filter=loud=very"], ..NOTHING },
            &["logging.filter = \"loud=very\"", "warn,bowline::wire=debug"],
        ),
        (
            Run { arguments: &["--set", "database.migrate_at_start=maybe"], ..NOTHING },
            &["database.migrate_at_start = \"maybe\"", "true or false"],
        ),
        (
            Run { file: Some("[limits]\nbody_bytes = 100000"), ..NOTHING },
            &["limits.frame_bytes = 65536 (the default)", "at least body_bytes + attrs_bytes"],
        ),
        (
            Run { file: Some("[limits]\nopen_commands = 0"), ..NOTHING },
            &["limits.open_commands = 0", "from 1 to 10000"],
        ),
        (
            Run { file: Some("[database]\nmax_conections = 3"), ..NOTHING },
            &["database.max_conections", "no such key", "did you mean database.max_connections?"],
        ),
        (
            Run { environment: &[("BOWLINE_LIMITS_BODYBYTES", "3")], ..NOTHING },
            &["BOWLINE_LIMITS_BODYBYTES", "no such key", "did you mean limits.body_bytes?"],
        ),
        (Run { file: Some("listen = 3"), ..NOTHING }, &["listen", "no such key", "http.listen"]),
        (Run { file: Some("[http\nlisten = 3"), ..NOTHING }, &[".toml", "line 1"]),
        (
            Run { arguments: &["--config", "/nowhere/bowline.toml"], ..NOTHING },
            &["/nowhere/bowline.toml", "No such file"],
        ),
        (
            Run { file: Some("[accounts.tokens]\naccess_ss = 3"), ..NOTHING },
            &["accounts.tokens.access_ss", "did you mean accounts.tokens.access_s?"],
        ),
        (
            Run { environment: &[("BOWLINE_ACCOUNTS_PASSWORDS_THREADS", "few")], ..NOTHING },
            &["accounts.passwords.threads = \"few\"", "a whole number"],
        ),
        (
            Run { file: Some("[accounts.tokens]\nexternal_issuer = \"a\"\nexternal_secret = \"hunter2\""), ..NOTHING },
            &["accounts.tokens.external_secret = (hidden)", "at least 32 bytes"],
        ),
        (
            // Two at once, from two places.
            Run { file: Some("[database]\nmax_waiting = 0"), environment: &[("BOWLINE_HTTP_LISTEN", "x")], ..NOTHING },
            &["database.max_waiting = 0", "http.listen = \"x\" (from BOWLINE_HTTP_LISTEN)"],
        ),
    ];
    for command in ["config", "serve"] {
        for (wrong, expected) in cases {
            let output = run(command, wrong);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            for words in *expected {
                assert!(said.contains(words), "{words:?} is not in: {said}");
            }
            assert!(!said.contains("hunter2"));
            assert!(!text(&output.stdout).contains("listens"), "it was bound");
        }
    }
}

#[test]
fn the_later_source_counts_and_each_value_says_where_it_came_from() {
    let output = run(
        "config",
        &Run {
            file: Some("[database]\nmax_connections = 3\nmax_waiting = 4\n[limits]\nmentions = 5\n"),
            environment: &[("DATABASE_MAX_CONNECTIONS", "6"), ("BOWLINE_DATABASE_MAX_WAITING", "7")],
            arguments: &[
                "--set",
                "database.max_connections=8",
                "--data-dir",
                "/some/where",
                "--set",
                "accounts.passwords.threads=2",
                "--set",
                "accounts.tokens.access_s=600",
            ],
        },
    );
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for line in [
        "max_connections = 8  # --set",
        "max_waiting = 7  # BOWLINE_DATABASE_MAX_WAITING",
        "data_dir = \"/some/where\"  # --data-dir",
        "attachments = 16\n",
        "passwords.threads = 2  # --set",
        "tokens.access_s = 600  # --set",
    ] {
        assert!(shown.contains(line), "{line:?} is not in: {shown}");
    }
    assert!(shown.contains("mentions = 5  # ") && shown.contains(".toml"), "{shown}");
}

#[test]
fn what_it_prints_is_a_configuration_that_gives_the_same() {
    let first =
        text(&run("config", &Run { arguments: &["--set", "logging.filter=warn,bowline=debug"], ..NOTHING }).stdout);
    let again = run("config", &Run { file: Some(&first), ..NOTHING });
    let values = |shown: &str| {
        let values = shown.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned());
        values.collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&text(&again.stdout)), "{}", text(&again.stderr));
}

#[test]
fn a_secret_is_never_shown() {
    let urls =
        [("DATABASE_URL", "postgres://bowline:hunter2@db/bowline"), ("REDIS_URL", "redis://bowline:hunter2@cache")];
    let shown = text(&run("config", &Run { environment: &urls, ..NOTHING }).stdout);
    for (name, _) in urls {
        assert!(shown.contains(&format!("url = \"(hidden)\"  # {name}")), "{shown}");
    }
    assert!(!shown.contains("hunter2"));
}

#[test]
fn variables_that_an_orchestrator_adds_for_services_are_no_keys() {
    let links: &[(&str, &str)] = &[
        ("BOWLINE_SERVICE_HOST", "10.0.0.1"),
        ("BOWLINE_SERVICE_PORT", "80"),
        ("BOWLINE_PORT", "tcp://10.0.0.1:80"),
        ("BOWLINE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("BOWLINE_POSTGRES_PORT_5432_TCP", "tcp://10.0.0.2:5432"),
        ("BOWLINE_POSTGRES_SERVICE_PORT_SQL", "5432"),
    ];
    let output = run("config", &Run { environment: links, ..NOTHING });
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_allocator_has_its_settings_compiled_in() {
    let said =
        text(&run("config", &Run { environment: &[("_RJEM_MALLOC_CONF", "stats_print:true")], ..NOTHING }).stderr);
    for setting in
        ["narenas: 1", "tcache_max: 1024", "dirty_decay_ms: 1000", "muzzy_decay_ms: 0", "background_thread: true"]
    {
        assert!(said.contains(&format!("opt.{setting}")), "{setting}");
    }
}

#[test]
fn help_teaches_by_examples() {
    for command in ["--help", "help"] {
        let shown = text(&run(command, &NOTHING).stdout);
        for words in
            ["bowline serve --listen 127.0.0.1:0", "DATABASE_URL=", "migrate", "--set database.max_connections=15"]
        {
            assert!(shown.contains(words), "{words:?} is not in: {shown}");
        }
        assert!(!shown.contains("postgres-child"));
    }
}
