"""The live model: what it learns from, how, and its card's figures."""
