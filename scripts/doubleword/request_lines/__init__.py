"""One request of a batch: how its line is made and checked."""
