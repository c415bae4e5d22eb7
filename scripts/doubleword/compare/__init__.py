"""Comparisons: the same rows asked under several variants, and what their answers say of these.

A *variant* is one way to ask: a model, a prompt, and what else its requests hold. Its requests for the *sample*, the
rows that all variants share, are an ordinary job beside the output. A *pair* is two variants, row by row. The *judge*
is a model that grades each answer, by one more job.

Promises: all variants ask the very same rows; nothing is paid before all of it is within the limit, and nothing twice;
whatever is called better is so beyond chance; every number is told with the rows it is of.
"""
