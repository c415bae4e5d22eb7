"""The work of each script, under the script's own name; what is too little for a module stands in the script itself.

A **command** takes the script's arguments and the `System`, and returns the keys of its one JSON object, or raises a
`Failure` that may carry them.

Promises: a command parses nothing and prints nothing; what costs or cannot be undone is asked for by a flag.
"""
