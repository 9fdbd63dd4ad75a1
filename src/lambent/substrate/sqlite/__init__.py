from lambent.substrate.sqlite.documents import SqliteDocuments, open_documents
from lambent.substrate.sqlite.tables import SqliteTables, open_tables

__all__ = ["SqliteDocuments", "SqliteTables", "open_documents", "open_tables"]
