DROP FUNCTION append;
DROP FUNCTION append_refusal;
DROP FUNCTION apart;
DROP FUNCTION direct_key;
DROP FUNCTION ensure_users;
