-- Long histories: sums of each day, longer buckets for what is older, and an end for what is too old; imports told apart;
-- how much of the time was seen; and who is who.

DROP VIEW traffic;

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
INSERT INTO bucket (id, network, origin, start, seconds, usage_rows, usage_checksum, checksum)
SELECT id, network, origin, start, seconds, usage_rows, usage_checksum, checksum FROM bucket_before;
DROP TABLE bucket_before;

-- A UTC day of it.
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

-- What each pair moved in each day: always the sum of its usage in the day's buckets.
CREATE TABLE day_usage (
    day     INTEGER NOT NULL REFERENCES day (id) DEFERRABLE INITIALLY DEFERRED,
    pair    INTEGER NOT NULL REFERENCES pair (id),
    bytes   INTEGER NOT NULL CHECK (bytes >= 0),
    packets INTEGER NOT NULL CHECK (packets >= 0),
    copies  INTEGER NOT NULL CHECK (copies >= 0),          -- how many of the packets were seen with their copy
    first   INTEGER NOT NULL CHECK (first >= 0),           -- the first packet, in nanoseconds after the day's start
    last    INTEGER NOT NULL CHECK (last >= first),        -- the last packet, likewise
    PRIMARY KEY (day, pair)
) STRICT, WITHOUT ROWID;

-- How the history is kept: one row.
CREATE TABLE history (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    seconds   INTEGER NOT NULL CHECK (seconds IN (900, 1800, 3600)),  -- how long buckets become when they are a week old
    clock     INTEGER NOT NULL,     -- seconds: like the time, but it never jumps; 0 before serve has run
    live_from INTEGER,              -- seconds: live usage of before was deleted, as its time was over; NULL if none was
    checksum  INTEGER NOT NULL
) STRICT;

-- How much of the time was seen: a row for each five minutes of a network in which serve captured it.
CREATE TABLE observed (
    start    INTEGER NOT NULL CHECK (start % 300 = 0),              -- seconds
    network  INTEGER NOT NULL REFERENCES network (id),
    seconds  INTEGER NOT NULL CHECK (seconds BETWEEN 0 AND 300),    -- how many of them capture was up and the network fine
    which    BLOB NOT NULL CHECK (length(which) IN (0, 38)),        -- a bit for each, the lowest of the first byte first; empty if it was all or none
    frames   INTEGER NOT NULL CHECK (frames >= 0),                  -- that arrived
    teed     INTEGER NOT NULL CHECK (teed >= 0),                    -- those between two other nodes: none without a tee rule
    dropped  INTEGER NOT NULL CHECK (dropped >= 0),                 -- frames that the kernel had no room for
    pairs    INTEGER NOT NULL CHECK (pairs >= 0),                   -- packets seen with their copy
    singles  INTEGER NOT NULL CHECK (singles >= 0),                 -- packets whose copy did not come, of members that send copies
    written  INTEGER NOT NULL,                                      -- as in bucket
    checksum INTEGER NOT NULL,
    PRIMARY KEY (start, network)
) STRICT, WITHOUT ROWID;

-- Who is who: what names files and controllers told, so that it is known without them.
-- To look around: SELECT * FROM member; SELECT addr, node, name FROM assignment JOIN member ON member.id = member;

CREATE TABLE member (
    id             INTEGER PRIMARY KEY,
    network        INTEGER NOT NULL REFERENCES network (id),
    node           TEXT NOT NULL,                                   -- its id, ten hex digits
    name           TEXT NOT NULL,                                   -- '' if it has none
    told           INTEGER NOT NULL CHECK (told IN (0, 1, 2)),      -- 0 seen by its MAC alone, 1 told of, 2 by a list of all members
    authorized     INTEGER NOT NULL CHECK (authorized IN (0, 1)),   -- whether its controller lets it in
    sent_bytes     INTEGER NOT NULL CHECK (sent_bytes >= 0),        -- captured live from its own addresses, since it is known
    received_bytes INTEGER NOT NULL CHECK (received_bytes >= 0),    -- likewise, to them
    checksum       INTEGER NOT NULL,
    UNIQUE (network, node)
) STRICT;

-- Addresses that are, or were, assigned to a member. Those that ZeroTier derives from its id are not among them.
CREATE TABLE assignment (
    id       INTEGER PRIMARY KEY,
    member   INTEGER NOT NULL REFERENCES member (id),
    addr     TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (member, addr)
) STRICT;

-- Names of addresses, whoever has them.
CREATE TABLE address_name (
    id       INTEGER PRIMARY KEY,
    addr     TEXT NOT NULL UNIQUE,
    name     TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

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

-- The same by UTC days: far fewer rows.
CREATE VIEW traffic_by_day AS
SELECT network.name AS network,
       date(day.start, 'unixepoch') AS day,
       CASE day.origin WHEN 0 THEN 'live' ELSE 'imported' END AS origin,
       s.addr AS source,
       s.mac AS source_mac,
       d.addr AS destination,
       d.mac AS destination_mac,
       day_usage.bytes,
       day_usage.packets,
       day_usage.copies,
       strftime('%Y-%m-%dT%H:%M:%S', day.start + day_usage.first / 1000000000, 'unixepoch')
           || printf('.%09dZ', day_usage.first % 1000000000) AS first,
       strftime('%Y-%m-%dT%H:%M:%S', day.start + day_usage.last / 1000000000, 'unixepoch')
           || printf('.%09dZ', day_usage.last % 1000000000) AS last
FROM day
JOIN network ON network.id = day.network
JOIN day_usage ON day_usage.day = day.id
JOIN pair ON pair.id = day_usage.pair
JOIN endpoint AS s ON s.id = pair.src
JOIN endpoint AS d ON d.id = pair.dst;

-- How much of the time was seen, in words.
CREATE VIEW coverage AS
SELECT network.name AS network,
       strftime('%Y-%m-%dT%H:%M:%SZ', observed.start, 'unixepoch') AS start,
       observed.seconds AS covered_seconds,
       observed.seconds / 300.0 AS coverage,
       observed.teed > 0 AS copies_seen,
       observed.frames,
       observed.dropped AS dropped_packets,
       observed.pairs,
       observed.singles
FROM observed
JOIN network ON network.id = observed.network;
