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
    checksum INTEGER NOT NULL,
    PRIMARY KEY (start, network)
) STRICT, WITHOUT ROWID;

-- The same in words.
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
