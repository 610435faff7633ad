"""Data sets by name, and what their terms allow: the one place that trainer, bench and evaluation ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_agent.errors import DataError
from mer_agent.models.data.acted import PREFIX, load_acted
from mer_agent.models.data.converted import load_converted
from mer_agent.models.data.datasets import Corpus, EncodeTexts, load_iemocap
from mer_agent.models.data.meld import load_meld
from mer_agent.models.data.mosi import load_mosi


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set comes from and what its terms allow; this goes into the cards of what is trained on it."""

    data: str
    terms: str


DATA = {
    "iemocap": Source(
        "IEMOCAP (Busso et al. 2008), 6 classes: 7,433 utterances of 151 dialogues: 5,163 for training, 647 to "
        "validate, 1,623 (Session 5) for testing; ordered by the end of each utterance",
        "IEMOCAP is licensed for research; so are weights trained on it",
    ),
    "meld": Source(
        "MELD (Poria et al. 2019), 7 classes: 9,989 utterances for training, 1,109 to validate, 2,610 for testing",
        "the annotations are under GPL-3, the footage belongs to its owners; research use",
    ),
    "mosi": Source(
        "CMU-MOSI (Zadeh et al. 2016), 2 classes: 1,285 utterances for training, 162 to validate, 752 for testing",
        "research use",
    ),
    **{
        f"{PREFIX}{fold}": Source(
            f"RAVDESS (Livingstone and Russo 2018) and EmoDB (Burkhardt et al. 2005), 8 classes; fold {fold} of the "
            "speakers for testing",
            "RAVDESS: CC BY-NC-SA 4.0; EmoDB: free to use with a citation",
        )
        for fold in range(5)
    },
}


BRINGS = {"iemocap": ("text/", "audio/ge2e@", "audio/prosody@"), "meld": ("text/", "audio/prosody@")}
"""How the ids begin of the features that a data set has; one that is not listed is asked for all."""


def load(
    name: str,
    data_dir: Path,
    features: Sequence[str],
    *,
    encode_texts: EncodeTexts | None = None,
    descriptors: Sequence[str] = (),
) -> Corpus:
    """Gives a data set by name with the features asked for.

    Args:
        name: `iemocap`, `meld`, `mosi`, `acted-0` to `acted-4` (RAVDESS and EmoDB in speech/), or a folder inside
            `data_dir` that `convert.convert` or `converted.write_table` made.
        data_dir: the folder that holds a folder of each data set.
        features: feature ids, such as `text/mpnet@1`.
        encode_texts: gives text features; the text encoder that the feature id names if not given.
        descriptors: the columns of `audio/prosody@1`, in order.

    Raises:
        DataError: the data are missing, incomplete or malformed; the message says where.
    """
    folder = Path(data_dir) / name
    if name == "iemocap":
        return load_iemocap(folder, features, encode_texts=encode_texts, descriptors=descriptors)
    if name == "meld":
        return load_meld(folder, features, encode_texts=encode_texts, descriptors=descriptors)
    if name == "mosi":
        return load_mosi(folder, features, encode_texts=encode_texts)
    if name.startswith(PREFIX):
        return load_acted(Path(data_dir) / "speech", name, features, encode_texts=encode_texts)
    if (folder / "features.safetensors").is_file():
        return load_converted(folder, features, encode_texts=encode_texts, descriptors=descriptors)
    raise DataError(f"no data set is called {name!r}: there are {', '.join(DATA)}, and folders of converted features")
