"""Encoders: each turns an utterance into one named feature vector.

`base` says what an encoder is and which one makes which feature:

    text        what was said    text/mpnet@1, text/mpnet-layers@1, text/minilm@1
    text_emotion  after which turns  text/mpnet-emotion@2 (and @1, for the bench), and text/mpnet-lower@1 of the same
                pass (text_lower, turns)
    text_judged  and what it makes of that  text/mpnet-judged@1
    tokens      its words one by one  text/mpnet-tokens@1, a sequence (sequences)
    voice       the voice        audio/ge2e@1
    voice_steps  the same, step by step  audio/ge2e-steps@1, a sequence
    whisper_steps  what the recogniser heard, step by step  audio/whisper-steps@1, a sequence
    mel         its picture      audio/mel@1, a sequence
    voice_emotion  the emotion in it  audio/emotion@6
    prosody     how it was said  audio/prosody@1, by pitch, loudness, harmonicity, syllables (framing, lags)

`weights` finds pretrained weights: listed in catalogue.toml, pulled by `carriers` or `hub`, kept by `storing`.
"""
