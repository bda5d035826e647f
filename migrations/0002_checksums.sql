-- Checksums over everything that totals come from, and buckets of any length.
--
-- A checksum is XXH3-64 over the table's name and the row's other columns in their order: an integer as 'i' and eight
-- bytes, little-endian; a text as 't', a blob as 'b', each with its length as eight bytes before its bytes; NULL as 'n'.
-- It is kept as a signed integer. Sums of checksums wrap around at 64 bits.

DROP VIEW traffic;

ALTER TABLE network  ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pair     ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE total    ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE import   ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;

-- An interval of a network's usage.
CREATE TABLE bucket (
    id             INTEGER PRIMARY KEY,
    network        INTEGER NOT NULL REFERENCES network (id),
    origin         INTEGER NOT NULL CHECK (origin IN (0, 1)),                   -- 0 captured live, 1 imported from a file
    start          INTEGER NOT NULL CHECK (start % 300 = 0),                    -- seconds
    seconds        INTEGER NOT NULL CHECK (seconds > 0 AND seconds % 300 = 0),  -- its length
    usage_rows     INTEGER NOT NULL CHECK (usage_rows >= 0),                    -- how many rows of usage it has
    usage_checksum INTEGER NOT NULL,                                            -- the sum of their checksums (without their bucket)
    checksum       INTEGER NOT NULL,
    UNIQUE (start, seconds, origin, network)
) STRICT;

INSERT INTO bucket (network, origin, start, seconds, usage_rows, usage_checksum, checksum)
SELECT DISTINCT endpoint.network, usage.origin, usage.bucket, 300, 0, 0, 0
FROM usage JOIN pair ON pair.id = usage.pair JOIN endpoint ON endpoint.id = pair.src
ORDER BY usage.bucket;

-- What each pair moved in each bucket.
CREATE TABLE usage_in_bucket (
    bucket  INTEGER NOT NULL REFERENCES bucket (id) DEFERRABLE INITIALLY DEFERRED,
    pair    INTEGER NOT NULL REFERENCES pair (id),
    bytes   INTEGER NOT NULL CHECK (bytes >= 0),
    packets INTEGER NOT NULL CHECK (packets >= 0),
    copies  INTEGER NOT NULL CHECK (copies >= 0),          -- how many of the packets were seen with their copy
    first   INTEGER NOT NULL CHECK (first >= 0),           -- the first packet, in nanoseconds after the bucket's start
    last    INTEGER NOT NULL CHECK (last >= first),        -- the last packet, likewise
    PRIMARY KEY (bucket, pair)
) STRICT, WITHOUT ROWID;

INSERT INTO usage_in_bucket (bucket, pair, bytes, packets, copies, first, last)
SELECT bucket.id, usage.pair, usage.bytes, usage.packets, usage.copies, usage.first, usage.last
FROM usage
JOIN pair ON pair.id = usage.pair
JOIN endpoint ON endpoint.id = pair.src
JOIN bucket ON bucket.start = usage.bucket AND bucket.origin = usage.origin AND bucket.network = endpoint.network
ORDER BY bucket.id, usage.pair;

DROP TABLE usage;
ALTER TABLE usage_in_bucket RENAME TO usage;

-- How many rows each table has, and the sum of their checksums; usage has its own in bucket.
CREATE TABLE seal (
    name     TEXT PRIMARY KEY,
    rows     INTEGER NOT NULL CHECK (rows >= 0),
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The usage in words.
CREATE VIEW traffic AS
SELECT network.name AS network,
       strftime('%Y-%m-%dT%H:%M:%SZ', bucket.start, 'unixepoch') AS start,
       bucket.seconds,
       CASE bucket.origin WHEN 0 THEN 'live' ELSE 'imported' END AS origin,
       s.addr AS source,
       s.mac AS source_mac,
       d.addr AS destination,
       d.mac AS destination_mac,
       usage.bytes,
       usage.packets,
       usage.copies,
       strftime('%Y-%m-%dT%H:%M:%S', bucket.start + usage.first / 1000000000, 'unixepoch')
           || printf('.%09dZ', usage.first % 1000000000) AS first,
       strftime('%Y-%m-%dT%H:%M:%S', bucket.start + usage.last / 1000000000, 'unixepoch')
           || printf('.%09dZ', usage.last % 1000000000) AS last
FROM bucket
JOIN network ON network.id = bucket.network
JOIN usage ON usage.bucket = bucket.id
JOIN pair ON pair.id = usage.pair
JOIN endpoint AS s ON s.id = pair.src
JOIN endpoint AS d ON d.id = pair.dst;
