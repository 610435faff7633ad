"""Cameras, by OpenCV: those of this machine, network streams (RTSP, HTTP) and files that stand for one.

A thread of its own reads as fast as the camera gives, so that nothing old waits in a driver's buffer; a picture is
stamped when it has been grabbed, and only those that are wanted are decoded into RGB. OpenCV's calls may block for ever
or give the last picture again and again: both is seen from outside (`supervise`), by the pulse that is kept here.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mer_agent.errors import DeviceError, MissingExtraError
from mer_agent.streams.clock import SessionClock
from mer_agent.streams.devices import DEFAULT, DeviceInfo, choose
from mer_agent.streams.supervise import Patience, Pulse, Stale
from mer_agent.streams.types import NS_PER_S, VideoFrame

LONGEST_SIDE_PX = 640
"""Larger pictures are scaled down, as those of recordings are."""
_READ_MS = 600
"""How long a network stream may keep a call waiting."""
_OPEN_MS = 5000
_PROBED = 4
"""Where nobody lists the cameras, so many numbers are tried."""
_ON_LINUX = Path("/sys/class/video4linux")


def cameras() -> list[DeviceInfo]:
    """Gives the cameras of this machine with what they give by default; opens each for a moment.

    Raises:
        MissingExtraError: OpenCV, or a system library that it needs, is missing.
    """
    cv2 = _opencv()
    found: list[DeviceInfo] = []
    with _quiet(cv2):
        for device in _numbered():
            video = cv2.VideoCapture(device.index)
            if video.isOpened():
                size = f"{video.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{video.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
                rate_hz = video.get(cv2.CAP_PROP_FPS)
                found.append(DeviceInfo(device.index, device.name, f"{size}, {rate_hz:.0f} Hz", not found, rate_hz))
            elif _ON_LINUX.is_dir():
                found.append(DeviceInfo(device.index, device.name, "can't be opened now: busy?", not found))
            video.release()
    return found


class Camera:
    """One camera as a source of RGB pictures.

    Args:
        source: name for the pictures.
        wanted: `default`, an index, a name or part of one, a file, or the URL of a stream.
        clock: session time.
        rate_hz: at most so many pictures a second are handed over, the first of each 1 / rate_hz.
        width: of the pictures to ask for, in pixels; cameras give the nearest that they can.
        height: likewise.
    """

    stale: Stale = "frozen"

    def __init__(
        self,
        source: str,
        wanted: str,
        clock: SessionClock,
        *,
        rate_hz: float = 5.0,
        width: int = 640,
        height: int = 480,
    ) -> None:
        self.source = source
        self._wanted = wanted
        self._clock = clock
        self._rate_hz = rate_hz
        self._size = width, height
        self._sequence = 0
        self._checksum = -1
        is_file = Path(wanted).is_file()
        # A picture may well stand still in a film.
        self.patience = Patience(stale_ns=None) if is_file else Patience()
        self._address = wanted if "://" in wanted or is_file else None

    def find(self) -> str:
        """Says which camera is meant, without passwords.

        Raises:
            DeviceError: there is none, or more than one.
            MissingExtraError: see `cameras`.
        """
        _opencv()
        if self._address is not None:
            return re.sub(r"//[^/@]*@", "//***@", self._address)
        device = choose(_numbered(), self._wanted, "camera")
        return f"{device.index} {device.name}"

    def open(self, deliver: Callable[[VideoFrame], None]) -> CameraCapture:
        """Opens the camera and begins to look.

        Raises:
            DeviceError: it is unknown, gone, busy or can't be reached.
            MissingExtraError: see `cameras`.
        """
        cv2 = _opencv()
        name = self.find()
        with _quiet(cv2):
            if self._address is not None:
                limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MS]
                video = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, limits)
            else:
                device = choose(_numbered(), self._wanted, "camera")
                if self._wanted != DEFAULT and not self._wanted.isdecimal():
                    self._wanted = device.name
                video = cv2.VideoCapture(device.index)
                for setting, value in (
                    (cv2.CAP_PROP_FRAME_WIDTH, self._size[0]),
                    (cv2.CAP_PROP_FRAME_HEIGHT, self._size[1]),
                    (cv2.CAP_PROP_BUFFERSIZE, 1),
                ):
                    video.set(setting, value)
        if not video.isOpened():
            video.release()
            where = "can it be reached, and is it a stream?" if self._address else "does another program hold it?"
            raise DeviceError(f"camera {name} can't be opened; {where}")
        paced = self._address is not None and "://" not in self._address
        capture = CameraCapture(cv2, video, self, deliver, paced=paced)
        threading.Thread(target=capture.look, name=self.source, daemon=True).start()
        return capture

    def frame(self, image: Any, captured_ns: int) -> VideoFrame:
        """Gives a picture of this camera its number."""
        self._sequence += 1
        return VideoFrame(image, captured_ns, self._sequence - 1, self.source)

    def is_new(self, checksum: int) -> bool:
        """Whether a picture differs from the last one, also from that before the camera was opened again."""
        known, self._checksum = self._checksum, checksum
        return checksum != known

    def slot(self, captured_ns: int) -> int:
        """Which 1 / rate_hz of session time a moment is in."""
        return int(captured_ns * self._rate_hz // NS_PER_S)

    def now_ns(self) -> int:
        """Session time."""
        return self._clock.now_ns()


class CameraCapture:
    """An open camera and the loop that reads it.

    Args:
        cv2: the module.
        video: its open `VideoCapture`.
        camera: whose it is.
        deliver: takes the pictures.
        paced: a file, which gives pictures faster than they were taken: wait for the time of each.
    """

    def __init__(
        self, cv2: Any, video: Any, camera: Camera, deliver: Callable[[VideoFrame], None], *, paced: bool
    ) -> None:
        now_ns = camera.now_ns()
        self.pulse = Pulse(now_ns, now_ns)
        self._cv2 = cv2
        self._video = video
        self._camera = camera
        self._deliver = deliver
        self._paced = paced
        self._stop = threading.Event()
        self._done = threading.Event()

    def look(self) -> None:
        """Reads the camera until it fails or is closed; the body of its thread."""
        try:
            with _quiet(self._cv2):
                self._look()
        except Exception as error:
            self.pulse.fault = f"the camera's pictures can't be read ({type(error).__name__})"
        finally:
            self._video.release()  # in the thread that reads: OpenCV's objects aren't safe to share
            self._done.set()

    def close(self) -> None:
        """Stops looking; may block where the driver does."""
        self._stop.set()
        self._done.wait()

    def _look(self) -> None:
        last_slot, begun_s = -1, time.monotonic()
        while not self._stop.is_set():
            if not self._video.grab():
                self._give_up()
                return
            if self._paced:
                due_s = begun_s + self._video.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
                if self._stop.wait(max(0.0, due_s - time.monotonic())):
                    return
            now_ns = self._camera.now_ns()
            slot = self._camera.slot(now_ns)
            if slot == last_slot:
                self.pulse.beat(now_ns, fresh=False)
                continue
            given, image = self._video.retrieve()
            if not given:
                continue
            last_slot = slot
            image = self._scaled(image)
            # Two pictures of a living sensor never have the same sum: there is noise in every one.
            fresh = self._camera.is_new(zlib.crc32(image.data))
            self.pulse.beat(now_ns, fresh)
            if fresh and not self._stop.is_set():
                self._deliver(self._camera.frame(image, now_ns))

    def _give_up(self) -> None:
        if self._paced:
            self.pulse.ended = True
        elif not self._stop.is_set():
            self.pulse.fault = "the camera gives no more pictures"

    def _scaled(self, image: Any) -> Any:
        """The picture in RGB, uint8 [height, width, 3] with no side longer than `LONGEST_SIDE_PX`."""
        height, width = image.shape[:2]
        scale = LONGEST_SIDE_PX / max(height, width)
        if scale < 1.0:
            size = round(width * scale), round(height * scale)
            image = self._cv2.resize(image, size, interpolation=self._cv2.INTER_AREA)
        return self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)


def _opencv() -> Any:
    """The package OpenCV.

    Raises:
        MissingExtraError: it, or a system library that it needs, is missing.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # or FFmpeg writes onto the terminal by itself
    try:
        import cv2
    except ImportError as error:
        if error.name == "cv2":
            raise MissingExtraError("opencv-python is not installed; run: pip install 'mer-agent[live]'") from error
        raise MissingExtraError(
            f"OpenCV lacks a system library ({error}); on Debian: apt-get install libgl1 libglib2.0-0"
        ) from error
    return cv2


@contextlib.contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """What goes wrong is told by us, once; OpenCV would write each failure onto the terminal."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    yield


def _numbered() -> list[DeviceInfo]:
    """The cameras of this machine as far as they are known without opening them."""
    if not sys.platform.startswith("linux"):
        return [DeviceInfo(index, f"camera {index}", "", index == 0) for index in range(_PROBED)]
    found: list[DeviceInfo] = []
    for node in sorted(_ON_LINUX.glob("video*"), key=lambda node: int(node.name.removeprefix("video"))):
        # A camera has several nodes; those after its first one give descriptions, not pictures.
        if (node / "index").read_text().strip() == "0":
            index = int(node.name.removeprefix("video"))
            found.append(DeviceInfo(index, (node / "name").read_text().strip(), "", not found))
    return found
