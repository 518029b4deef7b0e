-- What the enterprise's services raised, as it stands. `at` is the sender's time of the last change, `since` and `heard` are our own
-- clock's: all in milliseconds since 1970.
CREATE TABLE event (
    key     TEXT PRIMARY KEY,
    source  TEXT NOT NULL,
    name    TEXT NOT NULL,
    labels  TEXT NOT NULL,
    firing  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    since   INTEGER NOT NULL,
    heard   INTEGER NOT NULL
) STRICT;

-- What a policy decided, when and why.
CREATE TABLE decision (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    policy   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    what     TEXT NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX decision_policy ON decision (policy, sequence);

-- A server that a policy wants: written with the decision, before there is a borrowing. Its key makes the borrowing happen once.
CREATE TABLE want (
    key       TEXT PRIMARY KEY,
    policy    TEXT NOT NULL,
    profile   TEXT NOT NULL,
    lenders   TEXT NOT NULL,
    decision  INTEGER NOT NULL REFERENCES decision (sequence),
    borrowing TEXT UNIQUE REFERENCES borrowing (id),
    stage     TEXT NOT NULL,
    closed    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX want_open ON want (policy) WHERE closed = 0;
