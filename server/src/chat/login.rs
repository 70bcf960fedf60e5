use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use bowline_client::TokenSource;
use bowline_client::accounts::{Accounts, Login};
use bowline_client::protocol::{SessionId, UserId};
use bowline_client::token::Session;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::Args;

/// Who is at this terminal.
pub(super) struct Me {
    pub(super) user: UserId,
    /// Renewed while the client runs.
    latest: Arc<Mutex<Login>>,
}

impl Me {
    /// The access token that is good now, and its session.
    pub(super) fn latest(&self) -> (String, SessionId) {
        let login = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (login.access_token.clone(), login.session_id)
    }
}

pub(super) async fn log_in(accounts: &Accounts, args: &Args) -> anyhow::Result<(Me, TokenSource)> {
    let password = match &args.password {
        Some(password) => password.clone(),
        None => ask_password(&args.user)?,
    };
    let login = match args.register {
        true => accounts.register(&args.user, &password).await.context("making the account")?,
        false => accounts.log_in(&args.user, &password).await.context("logging in")?,
    };
    let latest = Arc::new(Mutex::new(login.clone()));
    let kept = Arc::clone(&latest);
    let persist = move |login: &Login| {
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = login.clone();
        Ok(())
    };
    let me = Me { user: login.user_id, latest };
    let session = Session::new(accounts.clone(), login).persist(Box::new(persist));
    Ok((me, TokenSource::Session(Box::new(session))))
}

/// From the terminal, without showing it.
fn ask_password(user: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("no password: give --password or BOWLINE_PASSWORD");
    }
    eprint!("Password of {user}: ");
    std::io::stderr().flush()?;
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSANOW, &shown)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
