use std::error::Error as _;

use bowline_protocol::{Code, Failure};
use tokio_postgres::error::SqlState;

/// How soon a client that met a database in trouble asks again.
pub(super) const RETRY_AFTER_MS: u64 = 1_000;

/// Why a statement did not answer, by what that says about its outcome. For logs; [`Fault::read`] and [`Fault::write`]
/// give what may cross the wire.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database refused it: a mistake of ours, or a constraint. Nothing was stored.
    #[error("refused: {}", describe(.0))]
    Refused(tokio_postgres::Error),
    /// The database can't do it at the moment: shutting down, full, read-only, a deadlock. Nothing was stored.
    #[error("not at the moment: {}", describe(.0))]
    Away(tokio_postgres::Error),
    /// Stopped in the database by a timeout or a cancel request. Nothing was stored.
    #[error("stopped: {}", describe(.0))]
    Stopped(tokio_postgres::Error),
    /// The connection was cut while it ran: it may be stored.
    #[error("cut: {}", describe(.0))]
    Cut(tokio_postgres::Error),
    /// The deadline passed while it ran: it may be stored, and a cancel request is on its way.
    #[error("the deadline passed while the statement ran")]
    Late,
}

impl Fault {
    /// What a reader is told.
    pub fn read(&self) -> Failure {
        match self {
            Fault::Refused(_) => Code::Internal.into(),
            Fault::Away(_) | Fault::Cut(_) => Failure::retry_after(Code::Unavailable, RETRY_AFTER_MS),
            Fault::Stopped(_) | Fault::Late => Code::DeadlineExceeded.into(),
        }
    }

    /// What a writer is told: wherever the statement may have been stored, that is what it says.
    pub fn write(&self) -> Failure {
        match self {
            Fault::Cut(_) | Fault::Late => Code::OutcomeUnknown.into(),
            Fault::Refused(_) | Fault::Away(_) | Fault::Stopped(_) => self.read(),
        }
    }

    /// The constraint that refused the statement, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Fault::Refused(error) => error.as_db_error().and_then(|error| error.constraint()),
            _ => None,
        }
    }

    /// Whether the connection may serve another statement.
    pub(super) fn spoils_connection(&self) -> bool {
        matches!(self, Fault::Away(_) | Fault::Cut(_) | Fault::Late)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // Parameters and columns that don't fit are found on this side of a connection that is well.
            let ours = error.source().is_some_and(|cause| !cause.is::<std::io::Error>());
            return if ours { Fault::Refused(error) } else { Fault::Cut(error) };
        };
        match *state {
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Fault::Stopped(error),
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::T_R_SERIALIZATION_FAILURE => Fault::Away(error),
            // A pooler reports the loss of its own connection as an error of class 08, and can't know the outcome.
            SqlState::CRASH_SHUTDOWN => Fault::Cut(error),
            ref state if state.code().starts_with("08") => Fault::Cut(error),
            ref state if state.code().starts_with("53") => Fault::Away(error),
            _ => Fault::Refused(error),
        }
    }
}

/// tokio-postgres says "db error" and keeps what happened in the cause.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(cause) => format!("{} {}", cause.code().code(), cause.message()),
        None => match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}
