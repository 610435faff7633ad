"""Models that papers compare with, on the same interface as ours."""
