"""Updates: a job goes on with a table that changed, and asks only what is new.

An **update** is one more set of batch files of a job, with the requests that no row asked before, and a row map over
all that the job ever asked. Rows that went stay on record: their requests are in the job, but not in the map.

Promises: a request that the job has asked is not asked again by an update; what is new is on record before it is asked;
an update that is refused leaves the job as it was.
"""
