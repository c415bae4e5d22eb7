"""What answers the requests of the embedded engine."""
