DROP FUNCTION bump_epoch;
