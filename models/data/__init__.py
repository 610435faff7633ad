"""Data sets: every layout that corpora come in, read into dialogues with labels and features."""
