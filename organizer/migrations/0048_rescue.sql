-- What the enterprise wants of rescue mode, by borrowing.
CREATE TABLE rescue (
    borrowing      TEXT    NOT NULL PRIMARY KEY,
    -- Until when the agent is to stay, by the lender's answer; none without an order.
    until          INTEGER,
    -- 1 when the lender may open a console of its own.
    lender_console INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who opened which console, when, and what it came to.
CREATE TABLE console (
    borrowing TEXT    NOT NULL,
    sequence  INTEGER NOT NULL,
    who       TEXT    NOT NULL,
    opened    INTEGER NOT NULL,
    -- None while it is open, or where the daemon was killed.
    closed    INTEGER,
    -- How it ended, and how much passed.
    words     TEXT    NOT NULL,
    PRIMARY KEY (borrowing, sequence)
) STRICT, WITHOUT ROWID;
