-- Times are UTC. Seconds count from 1970-01-01T00:00:00Z; bytes are bytes of IP packets.
-- To look around: SELECT * FROM traffic LIMIT 10;

CREATE TABLE network (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,       -- 16 hex digits, or the device while they are unknown, or '' for files without any
    device  TEXT NOT NULL DEFAULT ''    -- where it was last captured; '' if never live
) STRICT;

-- An address behind a MAC. The MAC names the ZeroTier member that carried its packets.
CREATE TABLE endpoint (
    id      INTEGER PRIMARY KEY,
    network INTEGER NOT NULL REFERENCES network (id),
    addr    TEXT NOT NULL,              -- an IP address, or external, multicast, other, beyond
    mac     TEXT NOT NULL,              -- like e2:53:1a:4b:b7:7c; '' where there is none
    UNIQUE (network, addr, mac)
) STRICT;

-- A direction of traffic: src sent, dst received.
CREATE TABLE pair (
    id      INTEGER PRIMARY KEY,
    src     INTEGER NOT NULL REFERENCES endpoint (id),
    dst     INTEGER NOT NULL REFERENCES endpoint (id),
    UNIQUE (src, dst)
) STRICT;

-- What each pair moved in each five minutes.
CREATE TABLE usage (
    bucket  INTEGER NOT NULL CHECK (bucket % 300 = 0),     -- its start in seconds
    origin  INTEGER NOT NULL CHECK (origin IN (0, 1)),     -- 0 captured live, 1 imported from a file
    pair    INTEGER NOT NULL REFERENCES pair (id),
    bytes   INTEGER NOT NULL CHECK (bytes >= 0),
    packets INTEGER NOT NULL CHECK (packets >= 0),
    copies  INTEGER NOT NULL CHECK (copies >= 0),          -- how many of the packets were seen with their copy
    first   INTEGER NOT NULL CHECK (first >= 0),           -- the first packet, in nanoseconds after the bucket's start
    last    INTEGER NOT NULL CHECK (last >= first),        -- the last packet, likewise
    PRIMARY KEY (bucket, origin, pair)
) STRICT, WITHOUT ROWID;

-- What each endpoint ever moved. 'beyond' has none: its packets count for their other end.
CREATE TABLE total (
    endpoint         INTEGER NOT NULL REFERENCES endpoint (id),
    origin           INTEGER NOT NULL CHECK (origin IN (0, 1)),   -- as in usage
    sent_bytes       INTEGER NOT NULL CHECK (sent_bytes >= 0),
    received_bytes   INTEGER NOT NULL CHECK (received_bytes >= 0),
    sent_packets     INTEGER NOT NULL CHECK (sent_packets >= 0),
    received_packets INTEGER NOT NULL CHECK (received_packets >= 0),
    first_seen       INTEGER NOT NULL,                            -- seconds
    first_ns         INTEGER NOT NULL,                            -- and the nanoseconds beyond them
    last_seen        INTEGER NOT NULL,
    last_ns          INTEGER NOT NULL,
    PRIMARY KEY (endpoint, origin)
) STRICT, WITHOUT ROWID;

-- The capture files that were taken in, so that none is taken in twice.
CREATE TABLE import (
    id          INTEGER PRIMARY KEY,
    sha256      BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),   -- of the file's bytes
    name        TEXT NOT NULL,
    size        INTEGER NOT NULL CHECK (size >= 0),                 -- bytes
    imported_at INTEGER NOT NULL,                                   -- seconds
    frames      INTEGER NOT NULL CHECK (frames >= 0),
    first_seen  INTEGER,                                            -- seconds; NULL if nothing was counted
    first_ns    INTEGER,                                            -- and the nanoseconds beyond them
    last_seen   INTEGER,
    last_ns     INTEGER
) STRICT;

-- The usage in words.
CREATE VIEW traffic AS
SELECT network.name AS network,
       strftime('%Y-%m-%dT%H:%M:%SZ', usage.bucket, 'unixepoch') AS start,
       CASE usage.origin WHEN 0 THEN 'live' ELSE 'imported' END AS origin,
       s.addr AS source,
       s.mac AS source_mac,
       d.addr AS destination,
       d.mac AS destination_mac,
       usage.bytes,
       usage.packets,
       usage.copies,
       strftime('%Y-%m-%dT%H:%M:%S', usage.bucket + usage.first / 1000000000, 'unixepoch')
           || printf('.%09dZ', usage.first % 1000000000) AS first,
       strftime('%Y-%m-%dT%H:%M:%S', usage.bucket + usage.last / 1000000000, 'unixepoch')
           || printf('.%09dZ', usage.last % 1000000000) AS last
FROM usage
JOIN pair ON pair.id = usage.pair
JOIN endpoint AS s ON s.id = pair.src
JOIN endpoint AS d ON d.id = pair.dst
JOIN network ON network.id = s.network;
