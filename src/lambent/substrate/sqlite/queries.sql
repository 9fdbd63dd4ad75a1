-- name: get_document
-- One document by its place.
SELECT value, revision FROM documents WHERE collection = :collection AND key = :key;

-- name: list_documents
-- A range of keys in order: from :start (included), beyond :after (excluded), before :stop (NULL: no end).
SELECT key, value, revision FROM documents
WHERE collection = :collection AND key >= :start AND key > :after AND (:stop IS NULL OR key < :stop)
ORDER BY key LIMIT :limit;

-- name: get_revision
-- What a compare-and-set compares with.
SELECT revision FROM documents WHERE collection = :collection AND key = :key;

-- name: put_document
-- The writer is alone, so the revision it has just read is still the one that is there.
INSERT INTO documents (collection, key, value, revision) VALUES (:collection, :key, :value, :revision)
ON CONFLICT (collection, key) DO UPDATE SET value = excluded.value, revision = excluded.revision;

-- name: delete_document
DELETE FROM documents WHERE collection = :collection AND key = :key;
