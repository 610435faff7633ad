from itertools import combinations

import numpy as np
import pytest

from mer_agent.palette import colours

SETS = (
    ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    ("negative", "positive"),
    ("humor", "no humor"),
)
# What people without one kind of cone see, for linear RGB (Machado and others, 2009, severity 1).
BLINDNESS = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen(colour: str, blindness: str) -> np.ndarray:
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.array(BLINDNESS[blindness]) @ linear


@pytest.mark.parametrize("labels", SETS, ids=lambda labels: labels[0])
def test_labels_of_a_set_differ_for_every_kind_of_eye(labels: tuple[str, ...]) -> None:
    found = colours(labels)
    assert set(found) == set(labels)
    for blindness in BLINDNESS:
        for one, other in combinations(labels, 2):
            distance = np.linalg.norm(seen(found[one], blindness) - seen(found[other], blindness))
            assert distance > 0.1, (blindness, one, other)


def test_labels_that_nobody_knows_get_colours_too() -> None:
    found = colours([f"label {number}" for number in range(20)])
    assert len(found) == 20
    assert colours(["happy", "odd"])["odd"] != colours(["happy"])["happy"]
