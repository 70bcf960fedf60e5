DROP VIEW IF EXISTS posts_by_hour_view SYNC;
DROP TABLE IF EXISTS posts_by_hour SYNC;
