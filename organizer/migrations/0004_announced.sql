-- What each channel of announcements was told, or may have been told: the row is there before the first word of it leaves the PO, and
-- goes when the channel was told that the server is gone. `shown` is JSON of the channel's own type; only the channel reads it.
CREATE TABLE announced (
    channel   TEXT NOT NULL,
    subject   TEXT NOT NULL,
    borrowing TEXT NOT NULL REFERENCES borrowing (id),
    shown     TEXT NOT NULL,
    mark      TEXT NOT NULL,
    tries     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, subject)
) STRICT, WITHOUT ROWID;
