"""Jobs: each batch created exactly once, watched, retried, found again."""
