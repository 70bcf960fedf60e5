use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use bowline_client::outbox::FileOutbox;
use bowline_client::protocol::UserId;

/// Terminals of one user at a time; each has a file of its own.
const TERMINALS: usize = 16;
const LINES: usize = 1_000;

/// The first outbox of this user that no other terminal has. Each is tried, so that what one left behind is sent by the
/// next.
pub(super) fn open(folder: Option<PathBuf>, user: UserId) -> io::Result<FileOutbox> {
    let folder =
        folder.or_else(default_folder).ok_or_else(|| io::Error::other("give --state-dir: there is no HOME"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    for terminal in 0..TERMINALS {
        match FileOutbox::open(folder.join(format!("outbox-{user}-{terminal}")), LINES) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
    Err(io::Error::other(format!("{TERMINALS} terminals of this user are open")))
}

fn default_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("bowline"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_client::outbox::Outbox;
    use bowline_client::protocol::wire;

    #[tokio::test]
    async fn two_terminals_do_not_share_and_what_is_left_is_taken_up() {
        let folder = std::env::temp_dir().join(format!("bowline-chat-{}", UserId::new()));
        let user = UserId::new();
        let mut first = open(Some(folder.clone()), user).expect("open");
        let second = open(Some(folder.clone()), user).expect("a file of its own");
        let send =
            wire::Send { log_id: vec![1; 16], client_id: vec![2; 16], body: "kept".into(), ..Default::default() };
        first.put(&send).await.expect("kept");
        drop((first, second));
        let mut again = open(Some(folder.clone()), user).expect("open again");
        assert_eq!(again.load().await.expect("load"), [send]);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
