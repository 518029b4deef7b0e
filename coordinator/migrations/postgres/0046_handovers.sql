-- Which way into the second kernel works on servers of a model. A model without a row has shown nothing against kexec.
CREATE TABLE handovers (
    -- Maker and product, as the firmware tells them.
    model  TEXT NOT NULL PRIMARY KEY,
    -- Handover in JSON.
    way    TEXT NOT NULL,
    -- When it was last seen to work, and on which server.
    since  BIGINT NOT NULL,
    server TEXT NOT NULL
);
