"""Models: the speaker graph, the fusion models, their training and their evaluation."""
