use ::clickhouse::error::Error;

/// Why ClickHouse did not do what it was asked. For logs and for whoever decides where else to ask; nothing of it crosses
/// the wire.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// As many reads as allowed are under way. Nothing was sent.
    #[error("as many reads as allowed are under way")]
    Full,
    /// The deadline passed. What was sent is being stopped; a batch may be stored.
    #[error("the deadline passed")]
    Late,
    /// The server ended it: its own limit, or a `KILL QUERY`.
    #[error("stopped: {0}")]
    Stopped(String),
    /// It can't be reached, was cut, or can't do it at the moment. A batch may be stored.
    #[error("away: {0}")]
    Away(String),
    /// The server refuses it, or its answer is not what it should be: a mistake of ours.
    #[error("refused: {0}")]
    Refused(String),
}

impl Fault {
    /// Whether the server has said that nothing of it runs any more.
    pub(super) fn ended_on_server(&self) -> bool {
        matches!(self, Self::Full | Self::Stopped(_) | Self::Refused(_))
    }
}

const TIMEOUT_EXCEEDED: u32 = 159;
const QUERY_WAS_CANCELLED: u32 = 394;
const QUERY_WAS_CANCELLED_BY_CLIENT: u32 = 734;
/// Too many queries, no network, too slow by its own estimate, read-only, no memory, no space on its disk.
const NOT_AT_THE_MOMENT: [u32; 8] = [202, 209, 210, 160, 242, 241, 243, 252];

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = describe(&error);
        match error {
            Error::TimedOut => Self::Late,
            Error::Network(_) => Self::Away(text),
            Error::BadResponse(answer) => match code(&answer) {
                Some(TIMEOUT_EXCEEDED | QUERY_WAS_CANCELLED | QUERY_WAS_CANCELLED_BY_CLIENT) => Self::Stopped(text),
                Some(code) if !NOT_AT_THE_MOMENT.contains(&code) => Self::Refused(text),
                // Without a code it is the word of a proxy in between.
                _ => Self::Away(text),
            },
            _ => Self::Refused(text),
        }
    }
}

/// Of `Code: 159. DB::Exception: …`.
fn code(answer: &str) -> Option<u32> {
    let (_, rest) = answer.split_once("Code: ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// With its causes, on one line that is not too long.
fn describe(error: &Error) -> String {
    const LONGEST: usize = 500;
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(deeper) = cause {
        text += &format!(": {deeper}");
        cause = deeper.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_whose_fault_it_is() {
        let check = |answer: &str, expected: &str| {
            let fault = Fault::from(Error::BadResponse(answer.to_owned()));
            assert!(fault.to_string().starts_with(expected), "{fault}");
        };
        check("Code: 159. DB::Exception: Timeout exceeded: elapsed 0.4 seconds", "stopped");
        check("Code: 394. DB::Exception: Query was cancelled", "stopped");
        check("Code: 241. DB::Exception: Memory limit", "away");
        check("Code: 202", "away");
        check("502 Bad Gateway", "away");
        check("Code: 60. DB::Exception: Unknown table", "refused");
    }
}
