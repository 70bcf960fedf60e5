use bowline_protocol::limits::Limits;

use super::Invalid;

const MIB: u64 = 1024 * 1024;

/// Each at least one; what a message holds must fit into a frame.
pub(super) fn validate(limits: &Limits) -> Vec<Invalid> {
    let ranges = [
        ("body_bytes", limits.body_bytes, 1..=MIB),
        ("frame_bytes", limits.frame_bytes, 1_024..=16 * MIB),
        ("attrs_bytes", limits.attrs_bytes, 0..=MIB),
        ("title_bytes", limits.title_bytes, 1..=64 * 1024),
        ("mentions", limits.mentions, 0..=1_000),
        ("attachments", limits.attachments, 0..=1_000),
        ("members_per_command", limits.members_per_command, 1..=10_000),
        ("open_commands", limits.open_commands, 1..=10_000),
        ("cursors_per_resume", limits.cursors_per_resume, 1..=10_000),
        ("replay_entries", limits.replay_entries, 1..=10_000_000),
        ("history_entries", limits.history_entries, 1..=10_000),
        ("conversations", limits.conversations, 1..=1_000_000),
        ("topic_bytes", limits.topic_bytes, 1..=1_024),
        ("topics", limits.topics, 0..=u16::MAX.into()),
        ("commands_per_s", limits.commands_per_s, 0..=1_000_000),
        ("commands_burst", limits.commands_burst, 1..=1_000_000),
    ];
    let mut found: Vec<_> =
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect();
    let content = limits.body_bytes.saturating_add(limits.attrs_bytes);
    if limits.frame_bytes < content {
        let allowed = format!("at least body_bytes + attrs_bytes, which is {content}");
        found.push(Invalid::new("frame_bytes", limits.frame_bytes, allowed));
    }
    found
}
