"""Tables that are written: the columns of a source, and those that results add, as CSV, Parquet, a workbook or `.npy`.

Promises: names of columns are never empty and never alike; a column that was not asked for is left out, one that does
not exist is refused before anything is written; a text is never a formula, a number keeps every digit.
"""
