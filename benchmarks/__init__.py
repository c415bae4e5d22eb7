"""How fast and how small the scripts are, against references run beside them: `python3 -m benchmarks`."""
