"""Reports: one page about jobs, which opens by a double click and fetches nothing.

A **subject** is a job, or a bare batch, that the page is about. What was **gathered** of it at one look are its counts,
causes, costs and **distributions**, which are of all its requests, and the **chosen** requests whose source cells,
prompt and answer stand in the page: all that went wrong first, then a seeded sample. Jobs that ask the rows of one
table are **compared**: each row stands once, with the answer of each job beside the others.

`gathering.py` reads, and finds what was asked of which row, `answer_table.py` counts and chooses, `page.py` writes the
page (`page.html`, `page.css`, `page.js`), `reporting.py` is the work of `report.py` and of `--report`.

Promises: an answer, a column name, a cause stay text, whatever they hold; totals are of all requests, and the page
says how many of them it shows; a page is written whole, and replaces nothing but a page; memory does not grow with the
number of requests.
"""
