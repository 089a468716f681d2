"""Measurements that take longer than a test may: `python -m benchmarks.NAME` in a clone;
each writes a record into `benchmarks/records`
"""
