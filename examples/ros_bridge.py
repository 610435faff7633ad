"""Emotions for robots: ROS 2 topics in the convention of ROS4HRI (REP 155, https://www.ros.org/reps/rep-0155.html).

    source /opt/ros/jazzy/setup.bash && sudo apt install ros-jazzy-hri-msgs
    python examples/ros_bridge.py mqtt://127.0.0.1:1883

    /humans/voices/tracked           hri_msgs/IdsList      the speakers
    /humans/voices/<id>/expression   hri_msgs/Expression   the newest emotion of each

A speaker is known by the voice, so its id is one of voices. REP 155 has `expression` below faces; below voices it means
the same of a voice. Ids of REP 155 are letters and digits, so `speaker-0` is called `speaker0`. Labels are translated
into the words of hri_msgs/Expression where it has one.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import rclpy
from hri_msgs.msg import Expression, IdsList

from mer_agent.client import EmotionMessage, EmotionStream

EXPRESSIONS = {
    "happy": "happy", "happiness": "happy", "joy": "happy", "excited": "excited", "sad": "sad", "sadness": "sad",
    "angry": "angry", "anger": "angry", "frustrated": "annoyed", "fear": "scared", "disgust": "disgusted",
    "surprise": "surprised", "neutral": "neutral",
}  # fmt: skip


class Bridge:
    """Publishes by a node.

    Args:
        node: an rclpy node.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._tracked = node.create_publisher(IdsList, "/humans/voices/tracked", 1)
        self._voices: dict[str, Any] = {}

    def take(self, emotion: EmotionMessage) -> None:
        """Publishes an emotion; one that could not be judged is left out."""
        if emotion.label is None:
            return
        voice = re.sub("[^A-Za-z0-9]", "", emotion.speaker)
        stamp = self._node.get_clock().now().to_msg()
        if voice not in self._voices:
            self._voices[voice] = self._node.create_publisher(Expression, f"/humans/voices/{voice}/expression", 1)
            listed = IdsList()
            listed.header.stamp = stamp
            listed.ids = list(self._voices)
            self._tracked.publish(listed)
        message = Expression()
        message.header.stamp = stamp
        message.expression = EXPRESSIONS.get(emotion.label, emotion.label)
        # What the model doesn't tell is not a number.
        message.valence = float("nan") if emotion.valence is None else emotion.valence
        message.arousal = float("nan") if emotion.arousal is None else emotion.arousal
        message.confidence = emotion.confidence
        self._voices[voice].publish(message)


async def main(url: str) -> None:
    """Runs until it is interrupted."""
    rclpy.init()
    try:
        bridge = Bridge(rclpy.create_node("mer_agent"))
        async for emotion in EmotionStream(url):
            bridge.take(emotion)
    finally:
        rclpy.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1:1883"))
