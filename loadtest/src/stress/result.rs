//! What a ramp came to: its steps, the knee, and what ran out.

use serde::Serialize;

use super::resource::Observed;
use super::{Args, MAIN, Of};
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;
use crate::unit::number;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    /// Of what grows.
    pub(super) asked: f64,
    pub(super) sockets: u32,
    pub(super) rate: f64,
    pub(super) send_to_ack: Percentiles,
    pub(super) send_to_deliver: Percentiles,
    /// How late this tool itself was with its messages, at p99.
    pub(super) pacing_late_ms: f64,
    pub(super) observed: Observed,
    /// What was not connected, acked or delivered.
    pub(super) trouble: Vec<String>,
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(super) struct Summary {
    of: &'static str,
    /// The last step that kept every threshold: one of these two.
    #[serde(skip_serializing_if = "Option::is_none")]
    knee_messages_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    knee_sockets: Option<f64>,
    /// At the knee.
    send_to_ack: Option<Percentiles>,
    send_to_deliver: Option<Percentiles>,
    broken: Vec<String>,
    ran_out: Option<&'static str>,
    steps: Vec<Step>,
}

impl Step {
    pub(super) fn line(&self, broken: &[String]) -> String {
        let cores = |cores: Option<f64>| cores.map_or("?".to_owned(), |cores| format!("{cores:.2}"));
        let seen = &self.observed;
        format!(
            "{}: ack p99 {:.1} ms, delivery p99 {:.1} ms; cores: server {}, tool {}, machine {}{}",
            number(self.asked),
            self.send_to_ack.p99_ms,
            self.send_to_deliver.p99_ms,
            cores(seen.server_cores),
            cores(seen.tool_cores),
            cores(seen.machine_cores),
            if broken.is_empty() { String::new() } else { format!(": {}", broken.join("; ")) },
        )
    }
}

impl Summary {
    pub(super) fn new(args: &Args, steps: Vec<Step>, broken: Vec<String>) -> Self {
        let kept = if broken.is_empty() { &steps[..] } else { &steps[..steps.len().saturating_sub(1)] };
        let knee = kept.last();
        let at = |of: Of| knee.filter(|_| args.of == of).map(|step| step.asked);
        Self {
            of: match args.of {
                Of::Rate => "rate",
                Of::Connections => "connections",
            },
            knee_messages_per_s: at(Of::Rate),
            knee_sockets: at(Of::Connections),
            send_to_ack: knee.map(|step| step.send_to_ack),
            send_to_deliver: knee.map(|step| step.send_to_deliver),
            ran_out: steps.last().filter(|_| !broken.is_empty()).and_then(|step| step.observed.ran_out()),
            broken,
            steps,
        }
    }

    fn knee(&self) -> String {
        match (self.knee_messages_per_s, self.knee_sockets) {
            (Some(rate), _) => format!("{} messages/s", number(rate)),
            (_, Some(sockets)) => format!("{} sockets", number(sockets)),
            _ => "none: the first step broke".to_owned(),
        }
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "stress";
    const MAIN: &'static str = MAIN;

    /// That something breaks is what it is for; that nothing was kept is not.
    fn ok(&self) -> bool {
        self.knee_messages_per_s.or(self.knee_sockets).is_some()
    }

    fn verdict(&self) -> String {
        let knee = self.knee();
        match (&self.broken[..], self.ran_out) {
            ([], _) => format!("The knee is beyond {knee}"),
            (_, Some(resource)) => format!("The knee is at {knee}; what ran out: {resource}"),
            (_, None) => format!("The knee is at {knee}; nothing that was sampled had run out"),
        }
    }

    fn lines(&self, lines: &mut Lines) {
        lines.say("the knee", self.knee());
        for broken in &self.broken {
            lines.say("then broke", broken);
        }
        if !self.broken.is_empty() {
            lines.say("ran out", self.ran_out.unwrap_or("nothing that was sampled"));
        }
        for step in &self.steps {
            let seen = &step.observed;
            let database = seen.database_ms.map_or(String::new(), |ms| format!(", a batch {ms:.1} ms"));
            let memory = seen.memory_mib.map_or(String::new(), |mib| format!(", {mib:.1} MiB"));
            let sockets =
                if self.knee_sockets.is_some() { String::new() } else { format!(", {} sockets", step.sockets) };
            lines.say(
                &format!("step {}", number(step.asked)),
                format_args!("{}{database}{memory}{sockets}", step.line(&[])),
            );
        }
    }
}
