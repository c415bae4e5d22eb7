"""Jobs: batches that are created exactly once, watched, retried and found again.

A **job file** says what was **intended** (a batch for each batch file, each with a **key** of its own) and what was
done. A later **attempt** at requests is one more intended batch of the job; a **retry** is the server's own; an
**update** adds batch files with what a table that changed asks anew.

`job_file.py` keeps it, `submission.py` plans it and `exactly_once.py` carries it out, `watching.py` looks at its
batches, `attempts.py` and `server_retry.py` ask again, `updates` ask what is new, `reuse` takes over what earlier jobs
answered, `cost_limit.py` stands before what costs, `adoption.py` makes a lost job file anew of what the server has
(`server_copies.py`), `connection.py` reaches the server of a job.

Promises: what costs is on record before it is asked, and looked for before it is asked again; a lost reply never pays
twice; a job goes on from wherever it stopped, on any machine that has its file or its id.
"""
