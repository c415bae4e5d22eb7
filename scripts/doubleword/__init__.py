"""Batch inference on the Doubleword API: every request accounted for, nothing paid twice.

One module for each noun. Imports run downward only: the scripts, then `submission`, `watch`, `results`,
then `api`, `job`, `batch_file`, `sources`, `pricing`, then `request_line`, then `outside` and `failure`.
"""
