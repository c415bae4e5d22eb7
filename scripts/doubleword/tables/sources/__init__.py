"""What rows come from: one module for each kind of source, and `source.py`, which tells the kinds apart.

Each kind becomes a **relation**: SQL over DuckDB that gives the rows in their order. CSV, Parquet and queries are read
by DuckDB itself; of JSON, workbooks, texts and folders the rows are staged first, and of a CSV file in which some row
is not as it should be.

Promises: however often a source is read, its rows are the same; what is wrong with a row costs that row alone, and is
said; what cannot be read at all is refused, never passed over.
"""
