"""Training and evaluation of any fusion model: recipe, epochs, records, checkpoints, scores."""
