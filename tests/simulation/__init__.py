"""Deterministic simulation: the real client code lives through whole jobs in a world that a seed decides.

Clock, sleep, randomness, network and disk reach the client through `doubleword.system` alone. Here all of them
are simulated, so hours pass in milliseconds, anything may fail at any step, the process may die in between, and
a seed that broke a promise breaks it again: `python -m tests.simulation --seed N` prints what happened.

`world` decides what fails and when; `server`, `network` and `disk` are what the client meets; `agent` runs the
commands as an agent would, by their exit codes, and holds the outcome against the truth of the server.
"""
