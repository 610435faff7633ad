"""`mer-agent demo`: a recorded conversation at real speed, and a second process that hears of it over MQTT only."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mer_agent.config.settings import Settings
from mer_agent.encoders import weights
from mer_agent.errors import FaultError
from mer_agent.run import Summary, replay
from mer_agent.terminal import say
from mer_agent.wire.broker import EmbeddedBroker

CONVERSATION = "endgame_nagg_nell.wav"
GOODBYE_S = 10.0
"""How long the listener may take to print what is left and to end."""


def sample_conversation() -> Path:
    """The recording that the demo plays: two speakers, 28 s.

    Raises:
        WeightsError: it has not been pulled.
    """
    return weights.path("sample-conversation") / CONVERSATION


async def run_demo(settings: Settings) -> Summary:
    """Plays the sample conversation; every line on standard output was received by the second process.

    Raises:
        FaultError: the second process ended too early or didn't end.
    """
    async with EmbeddedBroker(settings.mqtt.port or None) as broker:
        mqtt = settings.mqtt.model_copy(update={"url": broker.url, "publish_text": True})
        command = ["-m", "mer_agent.cli", "listen", "--mqtt", broker.url, "--until-offline"]
        listener = await asyncio.create_subprocess_exec(sys.executable, *command)
        try:
            summary = await replay(
                settings.model_copy(update={"mqtt": mqtt}), sample_conversation(), real_time=True, say=say
            )
            async with asyncio.timeout(GOODBYE_S):
                code = await listener.wait()
        except TimeoutError:
            raise FaultError(f"the listener didn't end within {GOODBYE_S:.0f} s") from None
        finally:
            if listener.returncode is None:
                listener.kill()
    if code != 0 and not summary.stopped:
        raise FaultError(f"the listener failed with exit code {code}")
    return summary
