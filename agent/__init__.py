"""Streaming, multimodal emotion recognition in conversation.

Microphone, camera and transcript streams -> utterances -> features -> incremental speaker graph -> fusion model ->
MQTT. Start at `mer_agent.agent`, which reads like that line.
"""

from __future__ import annotations

__version__ = "0.1.0"
