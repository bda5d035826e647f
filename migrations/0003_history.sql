-- Long histories: sums of each day, longer buckets for what is older, and an end for what is too old.

DROP VIEW traffic;

-- What ages are measured by: history.clock when the bucket was last written to.
ALTER TABLE bucket ADD COLUMN written INTEGER NOT NULL DEFAULT 0;

-- A UTC day of a network's usage.
CREATE TABLE day (
    id             INTEGER PRIMARY KEY,
    network        INTEGER NOT NULL REFERENCES network (id),
    origin         INTEGER NOT NULL CHECK (origin IN (0, 1)),         -- 0 captured live, 1 imported from a file
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
