"""Encoders: each turns an utterance into one named feature vector."""
