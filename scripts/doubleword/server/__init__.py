"""The API as a client sees it: one server, one key, a method for each endpoint.

Nouns: a *file* is an upload or what a batch wrote; a *batch* asks every request of an input file; a *result file* is
its output file or its error file. A *route* is the way to the server: proxy, certificates. A *call* is sent once or,
where that changes nothing more, with patience. An *error* (`ApiError`) says what went wrong in one sentence, whether
the server may have acted all the same, whether it may pass, and whether what was asked for is gone for good.

`api` endpoints, `objects` what they answer, `sending` one call, `route` the way there, `transfers` bodies too large
for memory, `errors`, `key`, `local_engine` the embedded engine as a server.

Promises: the key goes to its server alone, over https or to this machine; a call that creates something is made once;
every wait ends; a failure names the server, the setting or the key that it comes from, and what to do.
"""
