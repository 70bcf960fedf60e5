-- A refresh token proves by its family that it was given out for its session: an old one ends the session, a guess by one
-- who merely knows the session's id does not. From the salt, the previous token makes the current one, so that an answer
-- that was lost can be given again without storing a token. Sessions of outside issuers have neither.
ALTER TABLE sessions ADD COLUMN family_hash bytea, ADD COLUMN refresh_salt bytea;
