"""The work of each script, under the script's own name."""
