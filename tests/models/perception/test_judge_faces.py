"""The face encoder's figures beyond its protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import needs
from support.face_pictures import sample

from mer_agent.encoders.densenet import DenseNet, DenseShape
from mer_agent.models.data.ferplus import EMOTIONS, Faces
from mer_agent.models.perception.judge_faces import DAMAGE, accuracy, live_crops, robustness
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.types import VideoFrame


def network() -> DenseNet:
    torch.manual_seed(0)
    return DenseNet(len(EMOTIONS), DenseShape(stem=4, layers=(1,), growth=(4,))).eval()


def faces(images: torch.Tensor) -> Faces:
    votes = torch.eye(len(EMOTIONS))[torch.arange(len(images)) % len(EMOTIONS)]
    return Faces(images, votes)


def test_accuracy_is_a_percentage_of_faces() -> None:
    some = faces(torch.zeros(4, 1, 48, 48, dtype=torch.uint8))
    logits = some.votes.clone()
    logits[0] = logits[1]
    assert accuracy(logits, some) == 75.0


def test_every_kind_of_damage_has_its_figure_and_twice_the_same() -> None:
    some = faces(torch.randint(0, 255, (16, 1, 48, 48), dtype=torch.uint8))
    found = robustness(network(), some)
    assert list(found) == list(DAMAGE)
    assert all(0 <= value <= 100 for value in found.values())
    assert robustness(network(), some) == found


@pytest.mark.real_weights
def test_a_face_goes_the_live_way_and_a_blank_is_not_found() -> None:
    yunet = needs.weights("yunet")
    (seen,) = FaceWatcher(yunet).see(VideoFrame(sample(), 0, 0)).faces or ()
    crops = np.stack([seen.crop, np.full((48, 48), 90, np.uint8)])
    found = live_crops(network(), faces(torch.from_numpy(crops).unsqueeze(1)), yunet)
    assert (found["n"], found["found"]) == (2, 50.0)
    assert {found["accuracy_given_crop"], found["accuracy_live_crop"], found["same"]} <= {0.0, 100.0}


@pytest.mark.real_weights
def test_without_any_face_there_is_no_accuracy() -> None:
    blank = torch.full((2, 1, 48, 48), 90, dtype=torch.uint8)
    assert live_crops(network(), faces(blank), needs.weights("yunet")) == {"n": 2, "found": 0.0}
