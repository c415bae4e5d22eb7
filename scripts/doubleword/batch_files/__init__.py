"""Batch files: request lines in files of the right size, written, checked and read again."""
