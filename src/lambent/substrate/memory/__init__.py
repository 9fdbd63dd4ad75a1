from lambent.substrate.memory.blobs import MemoryBlobs
from lambent.substrate.memory.documents import MemoryDocuments

__all__ = ["MemoryBlobs", "MemoryDocuments"]
