//! The checks themselves. Each failure names the field as `command.field`.

use super::{Cursor, DEFAULT_PAGE, MAX_PAGE, MessageFields, Page};
use crate::limits::{ATTACHMENT_BYTES, EMOJI_BYTES, Limits};
use crate::{ClientId, Code, Failure, LogId, PostId, Seq, UserId, wire};

#[derive(Clone, Copy)]
pub(super) struct Checker<'a> {
    command: &'static str,
    limits: &'a Limits,
}

impl<'a> Checker<'a> {
    pub(super) fn new(command: &'static str, limits: &'a Limits) -> Self {
        Self { command, limits }
    }

    pub(super) fn invalid(&self, field: &str, message: &str) -> Failure {
        Failure::invalid(self.path(field), message)
    }

    pub(super) fn id<T>(&self, field: &str, bytes: &[u8], read: fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
        read(bytes).ok_or_else(|| self.invalid(field, "not a UUID"))
    }

    pub(super) fn optional_id<T>(
        &self,
        field: &str,
        bytes: Option<&[u8]>,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        bytes.map(|b| self.id(field, b, read)).transpose()
    }

    /// The item that a page starts after: its time and its id, or neither.
    pub(super) fn place<T>(
        &self,
        field: &str,
        id: Option<&[u8]>,
        at_ms: Option<i64>,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Option<(i64, T)>, Failure> {
        match (self.optional_id(field, id, read)?, at_ms) {
            (Some(id), Some(at_ms)) => Ok(Some((at_ms, id))),
            (None, None) => Ok(None),
            _ => Err(self.invalid("after_at_ms", &format!("goes with {field}"))),
        }
    }

    pub(super) fn listed<T>(&self, limit: u64, after: Option<(i64, T)>) -> Result<Page<T>, Failure> {
        Ok(Page { limit: self.page("limit", limit, MAX_PAGE)?, after })
    }

    pub(super) fn post(&self, bytes: &[u8]) -> Result<PostId, Failure> {
        self.id("post_id", bytes, PostId::from_wire)
    }

    pub(super) fn log(&self, bytes: &[u8]) -> Result<LogId, Failure> {
        self.id("log_id", bytes, LogId::from_wire)
    }

    pub(super) fn client_id(&self, bytes: &[u8]) -> Result<ClientId, Failure> {
        self.id("client_id", bytes, ClientId::from_wire)
    }

    pub(super) fn cursor(&self, field: &str, cursor: &wire::Cursor) -> Result<Cursor, Failure> {
        let log = self.id(&format!("{field}.log_id"), &cursor.log_id, LogId::from_wire)?;
        self.position(&format!("{field}.seq"), cursor.seq)?;
        self.position(&format!("{field}.epoch"), cursor.epoch)?;
        Ok(Cursor { log, seq: cursor.seq, epoch: cursor.epoch })
    }

    pub(super) fn target(&self, seq: Seq) -> Result<Seq, Failure> {
        if seq == 0 {
            return Err(self.invalid("target_seq", "names no entry; seqs count from 1"));
        }
        self.position("target_seq", seq)?;
        Ok(seq)
    }

    pub(super) fn count(&self, field: &str, count: usize, limit: u64) -> Result<(), Failure> {
        if count as u64 > limit { Err(Failure::too_large(self.path(field), limit)) } else { Ok(()) }
    }

    /// A page's length: 0 stands for the default, more than the most is refused.
    pub(super) fn page(&self, field: &str, asked: u64, most: u64) -> Result<u64, Failure> {
        match asked {
            0 => Ok(DEFAULT_PAGE.min(most)),
            n if n > most => Err(Failure::too_large(self.path(field), most)),
            n => Ok(n),
        }
    }

    pub(super) fn text(&self, field: &str, text: String, limit: u64) -> Result<String, Failure> {
        if text.len() as u64 > limit {
            return Err(Failure::too_large(self.path(field), limit));
        }
        if text.contains('\0') {
            return Err(self.invalid(field, "U+0000 can't be stored"));
        }
        Ok(text)
    }

    pub(super) fn topic(&self, name: String) -> Result<String, Failure> {
        if name.is_empty() {
            return Err(self.invalid("topic", "empty"));
        }
        self.text("topic", name, self.limits.topic_bytes)
    }

    pub(super) fn known<T, E>(&self, field: &str, value: Result<T, E>) -> Result<T, Failure> {
        value.map_err(|_| self.invalid(field, "not one of the known names"))
    }

    /// A set of users: sorted, each once.
    pub(super) fn users(&self, field: &str, list: &[Vec<u8>], limit: u64) -> Result<Vec<UserId>, Failure> {
        self.count(field, list.len(), limit)?;
        let each = list.iter().enumerate();
        let users = each.map(|(i, bytes)| self.id(&format!("{field}[{i}]"), bytes, UserId::from_wire));
        let mut users = users.collect::<Result<Vec<_>, _>>()?;
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    pub(super) fn reaction(&self, target_seq: Seq, emoji: String) -> Result<(Seq, String), Failure> {
        if emoji.is_empty() {
            return Err(self.invalid("emoji", "empty"));
        }
        Ok((self.target(target_seq)?, self.text("emoji", emoji, EMOJI_BYTES)?))
    }

    pub(super) fn message(&self, fields: MessageFields) -> Result<wire::Message, Failure> {
        let mentions = self.users("mentions", &fields.mentions, self.limits.mentions)?;
        self.attachments(&fields.attachments)?;
        for (field, seq) in [("reply_to_seq", fields.reply_to_seq), ("thread_root_seq", fields.thread_root_seq)] {
            self.position(field, seq.unwrap_or_default())?;
        }
        Ok(wire::Message {
            body: Some(self.text("body", fields.body, self.limits.body_bytes)?),
            reply_to_seq: fields.reply_to_seq,
            thread_root_seq: fields.thread_root_seq,
            mentions: mentions.into_iter().map(UserId::to_wire).collect(),
            attachments: fields.attachments,
            attrs: fields.attrs.map(|text| self.object("attrs", text)).transpose()?,
            deleted: false,
        })
    }

    pub(super) fn attachments(&self, attachments: &[wire::Attachment]) -> Result<(), Failure> {
        self.count("attachments", attachments.len(), self.limits.attachments)?;
        for (i, attachment) in attachments.iter().enumerate() {
            self.attachment(&format!("attachments[{i}]"), attachment)?;
        }
        Ok(())
    }

    fn attachment(&self, field: &str, attachment: &wire::Attachment) -> Result<(), Failure> {
        let texts = [
            ("url", Some(&attachment.url)),
            ("media_type", Some(&attachment.media_type)),
            ("sha256", attachment.sha256.as_ref()),
        ];
        for (name, text) in texts {
            let text = text.cloned().unwrap_or_default();
            self.text(&format!("{field}.{name}"), text, ATTACHMENT_BYTES)?;
        }
        if attachment.url.is_empty() {
            return Err(self.invalid(&format!("{field}.url"), "empty"));
        }
        self.position(&format!("{field}.size"), attachment.size)
    }

    /// `attrs`: one JSON object, written in one way whatever codec it came by, so that a resend is recognised.
    pub(super) fn object(&self, field: &str, text: String) -> Result<String, Failure> {
        let limit = self.limits.attrs_bytes;
        if text.len() as u64 > limit {
            return Err(Failure::too_large(self.path(field), limit));
        }
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).map_err(|_| self.invalid(field, "not a JSON object"))?;
        let text = serde_json::to_string(&object).map_err(|_| self.invalid(field, "not a JSON object"))?;
        // serde_json writes U+0000 in no other way; an escaped backslash before `u0000` is text that may stay.
        if has_nul(&serde_json::Value::Object(object)) {
            return Err(self.invalid(field, "U+0000 can't be stored"));
        }
        Ok(text)
    }

    fn position(&self, field: &str, value: u64) -> Result<(), Failure> {
        if value > crate::json::MAX_WHOLE {
            return Err(Failure {
                limit: Some(crate::json::MAX_WHOLE),
                field: Some(self.path(field)),
                ..Failure::new(Code::Invalid)
            });
        }
        Ok(())
    }

    fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.command)
    }
}

fn has_nul(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Command;
    use crate::limits::Limits;
    use crate::wire::client_frame::Kind;
    use crate::{Code, Codec};

    /// The failure's code, field and limit for a command in JSON.
    fn check(json: &str) -> Result<Command, (Code, String, Option<u64>)> {
        let limits = Limits {
            body_bytes: 8,
            attrs_bytes: 24,
            mentions: 1,
            members_per_command: 2,
            topic_bytes: 4,
            ..Limits::default()
        };
        let frame = Codec::Json.read_client(format!(r#"{{"id":1,{json}}}"#).as_bytes()).remove(0);
        let failed = |f: crate::Failure| (f.code, f.field.unwrap_or_default(), f.limit);
        let kind: Kind = frame.map_err(|r| failed(r.failure))?.kind.expect("a kind");
        Command::check(kind, &limits).map_err(failed)
    }

    #[test]
    fn every_refusal_names_field_and_limit() {
        const IDS: &str =
            r#""log_id":"018f0000-0000-7000-8000-000000000001","client_id":"018f0000-0000-7000-8000-000000000002""#;
        const USER: &str = "018f0000-0000-7000-8000-00000000000";
        let cases = [
            (format!(r#""send":{{{IDS},"body":"123456789"}}"#), Code::TooLarge, "send.body", Some(8)),
            (format!(r#""send":{{{IDS},"body":"a\u0000"}}"#), Code::Invalid, "send.body", None),
            (r#""send":{"body":"x"}"#.to_owned(), Code::Invalid, "send.log_id", None),
            (format!(r#""send":{{{IDS},"attrs":{{"k":"a\u0000b"}}}}"#), Code::Invalid, "send.attrs", None),
            (
                format!(r#""send":{{{IDS},"attrs":{{"k":"0123456789012345678901234"}}}}"#),
                Code::TooLarge,
                "send.attrs",
                Some(24),
            ),
            (format!(r#""send":{{{IDS},"mentions":["{USER}1","{USER}2"]}}"#), Code::TooLarge, "send.mentions", Some(1)),
            (
                format!(r#""send":{{{IDS},"attachments":[{{"url":""}}]}}"#),
                Code::Invalid,
                "send.attachments[0].url",
                None,
            ),
            (format!(r#""edit":{{{IDS},"body":"x"}}"#), Code::Invalid, "edit.target_seq", None),
            (
                format!(r#""conversation_list":{{"after_log_id":"{USER}1"}}"#),
                Code::Invalid,
                "conversation_list.after_at_ms",
                None,
            ),
            (format!(r#""react":{{{IDS},"target_seq":1}}"#), Code::Invalid, "react.emoji", None),
            (format!(r#""conversation_add":{{{IDS}}}"#), Code::Invalid, "conversation_add.user_ids", None),
            (
                format!(r#""conversation_add":{{{IDS},"user_ids":["{USER}1","{USER}2","{USER}3"]}}"#),
                Code::TooLarge,
                "conversation_add.user_ids",
                Some(2),
            ),
            (
                format!(r#""conversation_create":{{{IDS},"kind":"direct"}}"#),
                Code::Invalid,
                "conversation_create.user_ids",
                None,
            ),
            (
                format!(r#""conversation_create":{{{IDS},"kind":"salon"}}"#),
                Code::Invalid,
                "conversation_create.kind",
                None,
            ),
            (format!(r#""post_create":{{{IDS}}}"#), Code::Invalid, "post_create.body", None),
            (format!(r#""post_create":{{{IDS},"body":"123456789"}}"#), Code::TooLarge, "post_create.body", Some(8)),
            (
                format!(r#""post_create":{{{IDS},"body":"x","attrs":{{"k":"\u0000"}}}}"#),
                Code::Invalid,
                "post_create.attrs",
                None,
            ),
            (r#""post_create":{"body":"x"}"#.to_owned(), Code::Invalid, "post_create.client_id", None),
            (format!(r#""post_like":{{{IDS}}}"#), Code::Invalid, "post_like.post_id", None),
            (
                format!(r#""comment_create":{{{IDS},"post_id":"{USER}1","body":" "}}"#),
                Code::Invalid,
                "comment_create.body",
                None,
            ),
            (
                format!(r#""post_list":{{"user_id":"{USER}1","limit":101}}"#),
                Code::TooLarge,
                "post_list.limit",
                Some(100),
            ),
            (
                format!(r#""post_list":{{"user_id":"{USER}1","after_at_ms":5}}"#),
                Code::Invalid,
                "post_list.after_at_ms",
                None,
            ),
            (format!(r#""follow":{{{IDS}}}"#), Code::Invalid, "follow.user_id", None),
            (format!(r#""user_mute":{{"user_id":"{USER}1"}}"#), Code::Invalid, "user_mute.client_id", None),
            (
                format!(r#""people_list":{{"user_id":"{USER}1","kind":"friends"}}"#),
                Code::Invalid,
                "people_list.kind",
                None,
            ),
            (format!(r#""profile_set":{{{IDS}}}"#), Code::Invalid, "profile_set.display_name", None),
            (
                format!(r#""profile_set":{{{IDS},"display_name":"a\nb"}}"#),
                Code::Invalid,
                "profile_set.display_name",
                None,
            ),
            (
                format!(r#""profile_set":{{{IDS},"bio":"{}"}}"#, "x".repeat(1025)),
                Code::TooLarge,
                "profile_set.bio",
                Some(1024),
            ),
            (r#""topic_subscribe":{}"#.to_owned(), Code::Invalid, "topic_subscribe.topic", None),
            (r#""topic_subscribe":{"topic":"a\u0000"}"#.to_owned(), Code::Invalid, "topic_subscribe.topic", None),
            (r#""topic_unsubscribe":{"topic":"12345"}"#.to_owned(), Code::TooLarge, "topic_unsubscribe.topic", Some(4)),
            (r#""topic_publish":{"topic":"ééé"}"#.to_owned(), Code::TooLarge, "topic_publish.topic", Some(4)),
            (
                r#""topic_publish":{"topic":"é","body":"123456789"}"#.to_owned(),
                Code::TooLarge,
                "topic_publish.body",
                Some(8),
            ),
            (format!(r#""history":{{{IDS},"limit":5000}}"#), Code::TooLarge, "history.limit", Some(1024)),
            (
                format!(r#""history":{{{IDS},"before_seq":5,"around_seq":6}}"#),
                Code::Invalid,
                "history.before_seq",
                None,
            ),
        ];
        for (json, code, field, limit) in cases {
            assert_eq!(check(&json), Err((code, field.to_owned(), limit)), "{json}");
        }
    }

    #[test]
    fn an_escaped_backslash_is_not_a_nul() {
        const IDS: &str =
            r#""log_id":"018f0000-0000-7000-8000-000000000001","client_id":"018f0000-0000-7000-8000-000000000002""#;
        assert!(check(&format!(r#""send":{{{IDS},"attrs":{{"k":"\\u0000"}}}}"#)).is_ok());
    }
}
