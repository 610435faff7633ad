"""Streams: what is captured, stamped and cut, before any model of emotion looks at it."""
