from lambent.substrate.memory.blobs import MemoryBlobs
from lambent.substrate.memory.documents import MemoryDocuments
from lambent.substrate.memory.tables import MemoryTables

__all__ = ["MemoryBlobs", "MemoryDocuments", "MemoryTables"]
