"""Answers of earlier jobs, taken over for rows that ask the very same.

A row is **reused** where it has the answer of an earlier job; the **origin** of that is the id of the job and the
custom_id there. What is taken over is copied beside the new batch file (`batch_files/row_map.py`), and needs the
earlier job no more.

Promises: only good answers without a flaw are taken, for the same JSON of the same endpoint, model and parameters
included; never from a batch file or a result file that is not as it was recorded; an answer that is there, and cannot
be read now, is not asked again without a word.
"""
