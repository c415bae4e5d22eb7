"""Results: what became of each request of a job, in the order of the input.

A **result** is succeeded, failed, missing (its batch is over and has no row) or pending. **Reading** takes output and
error files to their end, judges each row (`answers`) and keeps it in a **spool** on disk; **reconciliation** picks the
best of all attempts for each request; an **output** writes them: the server's own lines, a matrix, or a table joined to
its source; where **rows** share requests, each gets the result of its own. The **summary** counts them, and **advice**
says what to do about those that are not as they should be.

Promises: every request has one result, and all are counted; a good answer is never replaced by a worse one; rows that
the server counts and does not show are neither failed nor missing; memory is bounded by one batch file.
"""
