"""Limits of the service, wherever they are needed."""

# dwctl config.rs, limits.requests.max_body_size: 10 MiB for the body of one line. Held against the whole line.
MAX_LINE_BYTES = 10_485_760
# What the hosted service documents for one file; a self-hosted server may allow less (dwctl limits.rs).
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
