-- The text order of keys is SQLite's BINARY collation of UTF-8, which is the order of code points.
CREATE TABLE documents (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    revision INTEGER NOT NULL CHECK (revision >= 1),
    PRIMARY KEY (collection, key)
) STRICT, WITHOUT ROWID;
