"""What the embedded engine keeps, in one SQLite file.

Nouns: the *store* is the file and its transactions. A *file* holds *lines*, one for each request; a *batch* has one
*request* row for each line, which is pending, processing, completed, failed or cancelled; the *queue* gives pending
ones out and takes outcomes in. *Contents* are files and results as JSON lines. The *ledger* has an entry for each
answer that is paid for.

Promises: every change is one transaction, on disk when it returns; what two places tell of one thing (a status and
its rows, an answer and its cost) changes in the same one.
"""
