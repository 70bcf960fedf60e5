DROP VIEW IF EXISTS posts_by_author_view SYNC;
DROP TABLE IF EXISTS posts_by_author SYNC;
