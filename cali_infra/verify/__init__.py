"""Proof that the platform works: checks, one file per family, and what runs and shows them.

It asks and judges; it repairs nothing. What is asked goes through the adapters, and nothing here writes to the
terminal.
"""
