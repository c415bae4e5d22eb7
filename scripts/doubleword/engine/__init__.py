"""The embedded engine: the files and batches API of the server on this machine, with a model of its own.

Promises: a client cannot tell its answers from the server's, as far as `app` lists them; nothing that was
acknowledged is lost, whenever the process is killed; it listens on loopback unless it is told otherwise.
"""
