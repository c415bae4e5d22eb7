"""Rows in and tables out.

A **source** is what the user names with --input or --join: files of one table, a folder of its parts, a folder of
texts or images, a workbook, or a query in a file. A **row** is one line of it: a number, counted from 1 over all rows
as they stand there, and a **cell** for each **column**, as the text that people write (19.99, 01067, 2023-11-14), None
where there is nothing. An **output** is a table of the source's columns and those that results add.

`sources/` reads, `outputs/` writes, `database.py` is DuckDB, which does the work between them, and `staged.py` brings
to it what it cannot read by itself.

Promises: a row is never merged with another, split, or left out without a word; a cell keeps every digit and every
leading zero; reading a source twice gives the same rows under the same numbers; memory does not grow with the rows.
"""
