"""How the encoders of faces, voices and words are taught."""
