"""What rows come from: one module for each kind of source, and `source.py`, which tells the kinds apart.

Each kind becomes a **relation**: SQL over DuckDB that gives the rows in their order. CSV, Parquet and queries are read
by DuckDB itself; of JSON, workbooks, texts and folders the rows are staged first.

Promises: a source is read once for its names and once for its rows, and both readings see the same; what cannot be read
is refused with its place, never passed over.
"""
