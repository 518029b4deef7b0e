-- What the boots of borrowed servers said on their consoles, through the tunnel, in pieces as they came. The store drops the oldest of a borrowing.
CREATE TABLE boot_log (
    borrowing TEXT    NOT NULL,
    sequence  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    -- LogSource in JSON.
    source    TEXT    NOT NULL,
    text      TEXT    NOT NULL,
    PRIMARY KEY (borrowing, sequence)
) STRICT, WITHOUT ROWID;
