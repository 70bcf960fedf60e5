DROP TABLE epoch_heads;
DROP TABLE epochs;
