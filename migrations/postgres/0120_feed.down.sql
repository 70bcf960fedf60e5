DROP FUNCTION feed_newest;
DROP FUNCTION feed_affinity;
DROP FUNCTION feed_trending;
DROP FUNCTION feed_followees;
DROP FUNCTION feed_follows;
DROP TABLE feed_secret;
DROP INDEX posts_newest;
