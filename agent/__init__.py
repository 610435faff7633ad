"""Streaming, multimodal emotion recognition in conversation.

Microphone, camera and transcript streams -> utterances -> features -> incremental speaker graph -> fusion model ->
MQTT. Start at `mer_agent.agent`, which reads like that line.

    cli, commands/       the command line
    wire/, client/       what travels over MQTT, and a dialogue system's end of it
    judging/, bench/     the whole agent's accuracy and speed, measured
"""

from __future__ import annotations

__version__ = "0.1.0"
