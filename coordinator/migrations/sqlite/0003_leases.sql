-- When the tenant's term ends, and when that is to be announced: NULL once it was. Leases of before there were terms end in the year 2100.
ALTER TABLE leases ADD COLUMN expires INTEGER NOT NULL DEFAULT 4102444800000;
ALTER TABLE leases ADD COLUMN warning INTEGER;
-- Servers that failed the lease, oldest first, as a list in JSON.
ALTER TABLE leases ADD COLUMN failed TEXT NOT NULL DEFAULT '[]';
-- When somebody must look at the lease again: its deadline, the end of its term, or the warning before that.
ALTER TABLE leases ADD COLUMN due INTEGER;
UPDATE leases SET due = deadline;
DROP INDEX leases_by_deadline;
CREATE INDEX leases_by_due ON leases (due) WHERE due IS NOT NULL;

-- The lender's signed records, byte for byte as they were signed.
CREATE TABLE erasures (
    lease      TEXT NOT NULL PRIMARY KEY,
    record     TEXT NOT NULL,
    signature  TEXT NOT NULL,
    public_key TEXT NOT NULL
) STRICT;
