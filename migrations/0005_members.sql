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
