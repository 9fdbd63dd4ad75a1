"""Event source mappings: records of a queue or a stream, polled, filtered and batched for a function."""
