"""Batch files: request lines in files that the service takes.

A **batch file** holds one request a line, at most 50,000 and 200 MB. A larger set becomes `<stem>-0001.jsonl`,
`<stem>-0002.jsonl`, …, which are submitted as one job. Beside it stands its **record**, `<stem>.source.json`: which
table its requests were made of, and by which form, so that they can be made again and held against it. Where rows share
requests, or have the answers of earlier jobs (`<stem>.reused.jsonl`), a **row map**, `<stem>.rows.tsv`, says what
answers each row.

`making.py` makes requests of rows, `writing.py` and `reading.py` put them into files and take them out, `check.py`
tells whether a file is valid, `record.py` keeps where it came from, `row_map.py` what answers each row.

Promises: a set of files appears whole or not at all and never mixes with an earlier set; a file counts as valid only
when every line is, each custom_id is used once over all files of the job, and the limits are kept.
"""
