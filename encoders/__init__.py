"""Encoders: each turns an utterance into one named feature vector.

    base        what an encoder is, and which one makes which feature
    text        words            text/mpnet@1, text/mpnet-layers@1, text/minilm@1
    voice       the voice        audio/ge2e@1
    prosody     how it was said  audio/prosody@1, from pitch, loudness, harmonicity, syllables (framing, lags: their tools)
    weights     pretrained weights: catalogue.toml, pulled by carriers or hub, kept by storing and manifest
"""
