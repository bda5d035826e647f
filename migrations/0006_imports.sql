-- The usage of each import is told from that of others, so that databases that have some of them in common can be merged.

ALTER TABLE import ADD COLUMN origin INTEGER NOT NULL DEFAULT 1 CHECK (origin >= 1);   -- the same for files taken in together

-- An interval of a network's usage: of what was captured live, or of one import.
CREATE TABLE bucket_before AS SELECT * FROM bucket;
DROP TABLE bucket;
CREATE TABLE bucket (
    id             INTEGER PRIMARY KEY,
    network        INTEGER NOT NULL REFERENCES network (id),
    origin         INTEGER NOT NULL CHECK (origin >= 0),                        -- 0 captured live, else import.origin
    start          INTEGER NOT NULL CHECK (start % 300 = 0),                    -- seconds
    seconds        INTEGER NOT NULL CHECK (seconds > 0 AND seconds % 300 = 0),  -- its length
    usage_rows     INTEGER NOT NULL CHECK (usage_rows >= 0),                    -- how many rows of usage it has
    usage_checksum INTEGER NOT NULL,                                            -- the sum of their checksums (without their bucket)
    written        INTEGER NOT NULL DEFAULT 0,                                  -- history.clock when it was last written to
    checksum       INTEGER NOT NULL,
    UNIQUE (start, seconds, origin, network)
) STRICT;
INSERT INTO bucket (id, network, origin, start, seconds, usage_rows, usage_checksum, written, checksum)
SELECT id, network, origin, start, seconds, usage_rows, usage_checksum, written, checksum FROM bucket_before;
DROP TABLE bucket_before;

-- A UTC day of it.
CREATE TABLE day_before AS SELECT * FROM day;
DROP TABLE day;
CREATE TABLE day (
    id             INTEGER PRIMARY KEY,
    network        INTEGER NOT NULL REFERENCES network (id),
    origin         INTEGER NOT NULL CHECK (origin >= 0),              -- as in bucket
    start          INTEGER NOT NULL CHECK (start % 86400 = 0),        -- seconds
    seconds        INTEGER NOT NULL CHECK (seconds = 86400),          -- its length
    usage_rows     INTEGER NOT NULL CHECK (usage_rows >= 0),          -- how many rows of day_usage it has
    usage_checksum INTEGER NOT NULL,                                  -- the sum of their checksums (without their day)
    written        INTEGER NOT NULL,                                  -- as in bucket
    checksum       INTEGER NOT NULL,
    UNIQUE (start, seconds, origin, network)
) STRICT;
INSERT INTO day (id, network, origin, start, seconds, usage_rows, usage_checksum, written, checksum)
SELECT id, network, origin, start, seconds, usage_rows, usage_checksum, written, checksum FROM day_before;
DROP TABLE day_before;
