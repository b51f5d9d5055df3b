"""Measuring the machine at hand: rates, bandwidth, and the time of every kind of op, as a hardware YAML.

Ops are timed in stacks of one block of each kind, of widths and shapes of their own, and a law is fitted for every
kind and mode (prefill, decode, train): seconds = overhead + FLOPs and bytes times what each takes. No model is
measured; `benchmarks/latency.py` shows how well the laws predict six that were not in the fit.
"""
