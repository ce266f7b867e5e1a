"""Benchmarks: every workload against every peer that has what it needs, as `python -m benches` from the repository's root.

The road of a figure: `__main__` chooses, `turns` lets the peers take turns, `fresh` starts a process for each
measurement, `one` makes it there with a class of `peers` and a function of `workloads`, `results` keeps it in a JSON
file and reckons medians and ratios, `tables` and `picture` show them.
"""
