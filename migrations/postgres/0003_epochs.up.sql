-- Which history of the database a cursor belongs to: raised after a restore, the newest one is in force.
CREATE TABLE epochs (
    epoch    bigint      PRIMARY KEY,
    timeline integer     NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Where an epoch began in each log: what was numbered above last_seq before it is unsure.
CREATE TABLE epoch_heads (
    log_id   uuid   NOT NULL,
    epoch    bigint NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (log_id, epoch)
);

INSERT INTO epochs (epoch, timeline)
VALUES (1, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer);
