"""Datasets: a table in many parts in, a table in the same parts out, each of them paid once.

A **partition** is a file of the source, or so many rows of one. Each is a **job** of its own, whose id and batch keys
**follow from what it asks**: its requests, endpoint and window, its own name and that of the run. So whoever takes it
up on another machine finds on the server what was begun. The **state** of a partition, an object in the output folder,
says who holds it, and in the end what became of it. A **step** is what is done of a partition at once, by a thread of
the script or by a task on a cluster.

`places.py` is where source and output stand, `partitions.py` says what is in the source, `claims.py` holds the states,
`part_job.py` is the job of one partition, `steps.py` takes it up and puts it down, `running.py` is the work of
`run_dataset.py`, `manifest.py` its sums, `on_ray.py` the cluster, and `arrow.py` the same as functions on Arrow tables.

Promises: a part is written whole or not at all, under the name and in the folder of its partition; one batch for each
batch file, whatever dies; a claim is taken over only from a holder that is proven dead, or was silent for long; memory
does not grow with the number of partitions.
"""
