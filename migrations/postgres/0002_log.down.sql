DROP TABLE entries;
DROP TABLE read_positions;
DROP TABLE blocks;
DROP TABLE membership;
DROP TABLE conversations;
DROP TABLE heads;
