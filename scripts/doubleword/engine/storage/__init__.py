"""What the embedded engine keeps: files, batches, their requests and results."""
