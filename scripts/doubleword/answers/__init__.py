"""What one answer is, and what it is worth.

A **line** of an output or error file holds a **choice** or several, or **vectors**; each is **judged**: good, or with
flaws (truncated, refused, empty, unfinished, invalid), or failed. A **schema** says what a structured answer has to
be; it stands in the request, and `response_schema.py` checks it before it is put there.

Promises: an answer is judged by what it holds, whichever server and endpoint it came from; one that holds no text,
call, vector or refusal is never good; numbers keep their digits; nothing here opens a file or a connection. What
servers say, and how it is called here, stands in `references/answers.md`.
"""
