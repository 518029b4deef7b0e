-- What the PO must know after a restart. Order and state are JSON of the types in src/borrowing: only the state machine reads them.
CREATE TABLE borrowing (
    id        TEXT PRIMARY KEY,
    created   INTEGER NOT NULL,
    since     INTEGER NOT NULL,
    hostname  TEXT NOT NULL,
    lease     TEXT,
    "order"   TEXT NOT NULL,
    state     TEXT NOT NULL,
    cursor    INTEGER NOT NULL DEFAULT 0,
    over      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A name is given once at a time.
CREATE UNIQUE INDEX borrowing_hostname ON borrowing (hostname) WHERE over = 0;

-- An address is given once at a time; the row goes when the borrowing is over.
CREATE TABLE address (
    address   TEXT PRIMARY KEY,
    borrowing TEXT NOT NULL UNIQUE REFERENCES borrowing (id)
) STRICT;

CREATE TABLE progress (
    borrowing TEXT NOT NULL REFERENCES borrowing (id),
    sequence  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    note      TEXT NOT NULL,
    PRIMARY KEY (borrowing, sequence)
) STRICT, WITHOUT ROWID;
