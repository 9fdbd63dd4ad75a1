from lambent.substrate.sqlite.documents import SqliteDocuments, open_documents

__all__ = ["SqliteDocuments", "open_documents"]
