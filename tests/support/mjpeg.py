"""A network camera on loopback: motion JPEG over HTTP, as cheap cameras give it; its plug can be pulled."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def noisy_pictures(count: int = 40, size: tuple[int, int] = (160, 120)) -> list[NDArray[np.uint8]]:
    """A square that wanders, seen by a sensor with noise: no two pictures are alike."""
    random = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        picture = random.integers(0, 40, (size[1], size[0], 3), np.uint8)
        picture[20:60, 2 * number : 2 * number + 40] = (200, 60, 20)  # red, in RGB
        pictures.append(picture)
    return pictures


class NetworkCamera:
    """Serves pictures (RGB), round and round, at `rate_hz` on `url`.

    `frozen`: gives the same picture again and again; `stalled`: keeps the connection and gives nothing.
    """

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], rate_hz: float = 20.0) -> None:
        self._jpegs = [cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes() for picture in pictures]
        self._rate_hz = rate_hz
        self._server: ThreadingHTTPServer | None = None
        self._plugged = threading.Event()
        self.port = 0
        self.frozen = self.stalled = False
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def plug(self) -> None:
        """Begins to serve; on the same port as before, if there was one."""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for number in iter(range(2**31)):
                        if not camera._plugged.is_set():
                            return
                        camera._serve(self.wfile, number)

            def log_message(self, *arguments: Any) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        ThreadingHTTPServer.daemon_threads = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._plugged.set()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def unplug(self) -> None:
        """Ends all connections and takes no new ones."""
        self._plugged.clear()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _serve(self, file: Any, number: int) -> None:
        time.sleep(1 / self._rate_hz)
        if self.stalled:
            return
        jpeg = self._jpegs[0 if self.frozen else number % len(self._jpegs)]
        file.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n")


def filmed(video: Path, count: int) -> list[NDArray[np.uint8]]:
    """The first pictures of a film, with the noise of a sensor."""
    from mer_agent.streams.media import video_frames

    random = np.random.default_rng(0)
    frames = [frame.image for frame in itertools.islice(video_frames(video), count)]
    return [np.clip(image + random.integers(-3, 4, image.shape), 0, 255).astype(np.uint8) for image in frames]


@contextlib.contextmanager
def network_camera(
    rate_hz: float = 20.0, pictures: Sequence[NDArray[np.uint8]] | None = None
) -> Iterator[NetworkCamera]:
    """A camera that is plugged in, and pulled out at the end."""
    camera = NetworkCamera(noisy_pictures() if pictures is None else pictures, rate_hz)
    camera.plug()
    try:
        yield camera
    finally:
        camera.unplug()
