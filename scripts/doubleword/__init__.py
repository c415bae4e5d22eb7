"""Batch inference on the Doubleword API: every request accounted for, nothing paid twice.

A **table** becomes **request lines**, each with a **custom_id**; these fill a **batch file**, which is uploaded as an
**input file**. A **batch** asks all its requests within a **completion window**; it writes an **output file** and an
**error file**. A **job** is the batches of one set of batch files, later attempts at the same requests included. Its
**results** are one row for each request, whatever became of it, and go back into a table.

Each package is named for its noun and opens with its promises. Imports run one way: the scripts, then `compare`,
`commands`, `report`, `jobs`, `results`, `pricing`, `batch_files`, `request_lines`, then `answers` and `tables`, then
`cli` and `server`, and at the bottom the modules of this folder, with `system.py`, the one seam to clock, disk, network
and randomness. The `engine` stands apart: scripts reach it over HTTP alone.
"""
