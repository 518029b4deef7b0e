-- When servers of a rack were switched on lately, for all Lease Managers that keep to one limit.
CREATE TABLE racks (
    -- The label `rack`; empty for the servers that have none.
    name   TEXT NOT NULL PRIMARY KEY,
    -- Points in time in JSON, the oldest first.
    starts TEXT NOT NULL
);
