"""The whole agent judged by recordings whose truth is known; only `evaluate` and `bench` load it."""
