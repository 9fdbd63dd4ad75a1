-- name: get
-- One record.
SELECT value, revision FROM documents WHERE collection = ? AND key = ?;

-- name: list
-- Records of a key range in order; the range stands for the prefix.
SELECT key, value, revision FROM documents
WHERE collection = ? AND key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?;

-- name: put
-- Writes one record; its revision grows by one.
INSERT INTO documents (collection, key, value, revision) VALUES (?, ?, ?, 1)
ON CONFLICT (collection, key) DO UPDATE SET value = excluded.value, revision = revision + 1
RETURNING revision;

-- name: delete
DELETE FROM documents WHERE collection = ? AND key = ?;
