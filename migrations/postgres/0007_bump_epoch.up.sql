-- After a restore: begins the next epoch where every log ends now. Nothing is stored meanwhile, and what nodes that
-- believe in the old epoch send afterwards is refused.
CREATE FUNCTION bump_epoch() RETURNS bigint LANGUAGE plpgsql SET lock_timeout = '60s' AS $$
DECLARE
    begun bigint;
BEGIN
    LOCK TABLE heads IN EXCLUSIVE MODE;
    INSERT INTO epochs (epoch, timeline)
    SELECT max(e.epoch) + 1, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer FROM epochs e
    RETURNING epoch INTO begun;
    INSERT INTO epoch_heads (log_id, epoch, last_seq) SELECT h.log_id, begun, h.last_seq FROM heads h;
    -- Rows of a cluster that had counted further would hide what this one stores from those that follow the changes.
    UPDATE entries SET txid = 1 WHERE txid >= pg_current_xact_id()::text::bigint;
    RETURN begun;
END $$;
