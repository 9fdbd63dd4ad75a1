"""Folders of this machine whose files are taken into buckets."""
