"""The work of each script, under the script's own name; what is too little for a module stands in the script itself.

A command parses nothing and prints nothing: it takes arguments and the `System`, and returns the keys of the script's
one JSON object, or raises a `Failure` that may carry them.
"""
