DROP FUNCTION read_people;
DROP FUNCTION read_comments;
DROP FUNCTION read_regards;
DROP FUNCTION read_posts_by;
DROP FUNCTION read_posts;
DROP FUNCTION append_counts;
DROP FUNCTION append_social;
DROP TABLE user_counts, post_counts, mutes, follows, comments, post_shares, post_likes, posts;
ALTER TABLE users DROP COLUMN avatar_url, DROP COLUMN bio;
