-- Small records under (collection, key). WITHOUT ROWID keeps a collection's keys together and in order.
CREATE TABLE documents (
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,
    revision   INTEGER NOT NULL,
    PRIMARY KEY (collection, key)
) WITHOUT ROWID;
