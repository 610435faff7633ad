"""Contrastive losses: what pulls utterances of one emotion together and pushes the others apart (Shou et al. 2023).

Two losses of the paper, their weighted total, and two that it compares itself with:

    iccl   eq. 11-12   within a modality, between classes
    imcl   eq. 13-14   within and between modalities; three readings of a text that contradicts itself
    total  eq. 16-17   L = L_emotion + w1 L_ICCL + w2 L_IMCL
    scl                supervised contrastive loss (Khosla et al. 2020)
    sccl               supervised cluster-level contrastive loss (Yang et al. 2023)

and one of the other paper that this project implements, which any model with vectors can learn by:

    icl                inter-class contrastive learning (Shi et al. 2024, eq. 7)

All read vectors of N utterances; `labels` are int64 [N] with NO_LABEL where nobody labelled. An utterance without label
and a modality that is absent take part in no pair: their vectors are never read. Each loss is a scalar, and 0 with a
gradient of 0 where a batch has no pair to compare.

The paper's formulas were lost in the only text we have of it; what stands here is what its prose says of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mer_agent.models.batch import NO_LABEL

Reading = Literal["introduction", "definition", "closing"]
"""Where the paper says which pairs IMCL draws together: see `imcl`."""

READINGS: tuple[Reading, ...] = ("introduction", "definition", "closing")


@dataclass(frozen=True, slots=True)
class Contrast:
    """How much the contrastive losses weigh and how they compare; a weight of 0 switches its part off.

    The paper gives none of these numbers.
    """

    w1: float = 0.0
    """Weight of ICCL."""
    w2: float = 0.0
    """Weight of IMCL."""
    temperature: float = 0.5
    regulariser: float = 1.0
    """Weight of eq. 12 and 14 within their losses; 0 leaves the bare ratio of eq. 11 and 13."""
    margin: float = 0.1
    """Modal margin b of IMCL, in units of cosine similarity."""
    reading: Reading = "introduction"


def total(emotion: Tensor, states: Tensor, labels: Tensor, present: Tensor, contrast: Contrast) -> Tensor:
    """Gives the loss that is minimised: L = L_emotion + w1 L_ICCL + w2 L_IMCL (eq. 16-17).

    Args:
        emotion: the classifier's loss (eq. 15), a scalar.
        states: [N, M, d], what leaves the graphs.
        labels: [N].
        present: bool [N, M], see `batch.presence`.
        contrast: weights and settings.
    """
    if contrast.w1:
        settings = {"temperature": contrast.temperature, "regulariser": contrast.regulariser}
        emotion = emotion + contrast.w1 * iccl(states, labels, present, **settings)
    if contrast.w2:
        emotion = emotion + contrast.w2 * imcl(
            states,
            labels,
            present,
            reading=contrast.reading,
            margin=contrast.margin,
            temperature=contrast.temperature,
            regulariser=contrast.regulariser,
        )
    return emotion


def iccl(
    states: Tensor, labels: Tensor, present: Tensor, *, temperature: float = 0.5, regulariser: float = 1.0
) -> Tensor:
    """Gives the intra- and inter-class loss within each modality (eq. 11-12).

    Positive: same modality, same class. Negative: same modality, other class. For the ratio and its regulariser see
    `contrast_pairs`.

    Shapes: states [N, M, d], labels [N], present bool [N, M] -> scalar.
    """
    vectors, classes, modalities = _nodes(states, labels, present)
    same_class, same_modality = _same(classes), _same(modalities)
    positive = same_class & same_modality & _others(classes)
    return contrast_pairs(
        vectors, positive, ~same_class & same_modality, temperature=temperature, regulariser=regulariser
    )


def imcl(
    states: Tensor,
    labels: Tensor,
    present: Tensor,
    *,
    reading: Reading = "introduction",
    margin: float = 0.1,
    temperature: float = 0.5,
    regulariser: float = 1.0,
) -> Tensor:
    """Gives the intra- and inter-modal loss (eq. 13-14), over all utterances' vectors in all modalities at once.

    The paper contradicts itself on what is drawn together:

        reading        positive                      negative                     where it says so
        introduction   same class, other modality    other class, same modality   introduction, conclusion
        definition     same class, same modality     other class, other modality  section IV-C, definition
        closing        same class, same modality     same class, other modality   section IV-C, last sentence

    The modal margin b asks that a positive pair be more alike than its negatives by b (it is subtracted from the
    positive's similarity): 0 leaves the gap between modalities wide, a large one makes them say the same thing.

    Shapes: states [N, M, d], labels [N], present bool [N, M] -> scalar.
    """
    vectors, classes, modalities = _nodes(states, labels, present)
    same_class, same_modality = _same(classes), _same(modalities)
    if reading == "introduction":
        positive, negative = same_class & ~same_modality, ~same_class & same_modality
    elif reading == "definition":
        positive, negative = same_class & same_modality & _others(classes), ~same_class & ~same_modality
    elif reading == "closing":
        positive, negative = same_class & same_modality & _others(classes), same_class & ~same_modality
    else:
        raise ValueError(f"no reading {reading!r} of IMCL: take one of {', '.join(READINGS)}")
    return contrast_pairs(vectors, positive, negative, margin=margin, temperature=temperature, regulariser=regulariser)


def contrast_pairs(
    vectors: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.0,
    temperature: float = 0.5,
    regulariser: float = 1.0,
) -> Tensor:
    """Gives the ratio loss of eq. 11 and 13 plus `regulariser` times that of eq. 12 and 14.

    With s_ij the cosine of vectors i and j divided by the temperature, P(i) and N(i) the anchor's positives and
    negatives, b the margin (divided by the temperature, too) and sigma the logistic function:

        ratio        mean_i mean_{p in P(i)}  -log exp(s_ip - b) / ( exp(s_ip - b) + sum_{n in N(i)} exp(s_in) )
        regulariser  mean_i mean_{p in P(i)}  -log sigma(s_ip - b)
                   + mean_i mean_{n in N(i)}  -log (1 - sigma(s_in))

    Positives don't compete with each other, as they do in SCL. Once the negatives' part is nought the ratio is 1
    however unlike the positives are: that is why the regulariser moves either similarity separately. Each mean over i
    takes the anchors that have such a pair.

    Shapes: vectors [K, d], positive and negative bool [K, K] -> scalar.
    """
    similarity = _cosine(vectors) / temperature
    closeness = similarity - margin / temperature
    opponents = similarity.masked_fill(~negative, _floor(similarity)).logsumexp(1, keepdim=True)
    loss = _mean_pair(functional.softplus(opponents - closeness), positive)  # -log(e^p / (e^p + e^n)) without e
    if regulariser:
        apart = _mean_pair(functional.softplus(-closeness), positive) + _mean_pair(
            functional.softplus(similarity), negative
        )
        loss = loss + regulariser * apart
    return loss


def scl(vectors: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Gives the supervised contrastive loss, L_out (Khosla et al. 2020, eq. 2).

        mean_i  -1/|P(i)| sum_{p in P(i)} log ( exp(s_ip) / sum_{a != i} exp(s_ia) )

    s is the cosine divided by the temperature, P(i) the others of the anchor's class; anchors that have none are left
    out of the mean.

    Shapes: vectors [N, d] (of a model's output: `states.flatten(1)`), labels [N] -> scalar.
    """
    kept = labels != NO_LABEL
    similarity = _cosine(vectors[kept]) / temperature
    others = _others(labels[kept])
    everyone = similarity.masked_fill(~others, _floor(similarity)).logsumexp(1, keepdim=True)
    return _mean_pair(everyone - similarity, _same(labels[kept]) & others)


def icl(vectors: Tensor, labels: Tensor, *, temperature: float = 0.5, unit: bool = True) -> Tensor:
    """Gives the inter-class contrastive loss of joint-vector fusion (Shi et al. 2024, eq. 7), a mean over anchors.

        mean_i  -1/|P(i)| sum_{p in P(i)} log ( exp(F_i F_p / tau) / sum_{j != i} exp(F_i F_j / tau) )

    F_i is what both sides say of utterance i, end to end (eq. 6), and P(i) are the others of its class. The paper sums
    over anchors, which is a matter of the loss's weight, and gives no tau.

    Args:
        vectors: F, [N, d].
        labels: [N].
        temperature: tau.
        unit: scales the vectors to length 1, which makes this `scl`; False takes the bare products, as the formula is
            printed. They grow with the vectors, so that the loss can be lowered by making these longer.
    """
    if unit:
        return scl(vectors, labels, temperature=temperature)
    kept = labels != NO_LABEL
    similarity = vectors[kept] @ vectors[kept].T / temperature
    others = _others(labels[kept])
    everyone = similarity.masked_fill(~others, _floor(similarity)).logsumexp(1, keepdim=True)
    return _mean_pair(everyone - similarity, _same(labels[kept]) & others)


def sccl(affect: Tensor, labels: Tensor, prototypes: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Gives the supervised cluster-level contrastive loss (Yang et al. 2023).

    The utterances of a class that are in the batch are one cluster c_k, the mean of what the model says of their
    valence, activation and dominance; each is contrasted with the prototypes v of all classes:

        mean_k  -log exp(cos(c_k, v_k) / temperature) / sum_j exp(cos(c_k, v_j) / temperature)

    The paper takes its prototypes from the NRC-VAD lexicon; here the caller gives them, by the scale's middle as the
    origin (`class_means` of rated training data is a measured choice). A class whose prototype is NaN takes no part.

    Shapes: affect [N, 3], labels [N], prototypes [C, 3] -> scalar.
    """
    known = ~prototypes.isnan().any(1)
    kept = (labels != NO_LABEL) & known[labels.clamp_min(0)]
    if not kept.any():
        return affect[kept].sum()
    classes, cluster = torch.unique(labels[kept], return_inverse=True)
    members = functional.one_hot(cluster, len(classes)).to(affect.dtype)  # [n, K]
    means = members.T @ affect[kept] / members.sum(0).unsqueeze(1)
    logits = _unit(means) @ _unit(prototypes[known].to(affect)).T / temperature
    return functional.cross_entropy(logits, known.cumsum(0)[classes] - 1)


def class_means(affect: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Gives the mean rating of each class [C, 3]; NaN for a class that nobody rated, as are unrated rows."""
    rated = ~affect.isnan().any(1)
    return torch.stack([affect[rated & (labels == k)].mean(0) for k in range(classes)])


def _nodes(states: Tensor, labels: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lays out the K labelled vectors that are there: vectors [K, d], class and modality of each [K]."""
    utterances, modalities = (present & (labels != NO_LABEL).unsqueeze(1)).nonzero(as_tuple=True)
    return states[utterances, modalities], labels[utterances], modalities


def _same(values: Tensor) -> Tensor:
    return values.unsqueeze(0) == values.unsqueeze(1)


def _others(values: Tensor) -> Tensor:
    """Bool [K, K]: all pairs but a vector's with itself."""
    return ~torch.eye(len(values), dtype=torch.bool, device=values.device)


def _unit(vectors: Tensor) -> Tensor:
    """Scales to length 1; a vector of zeros stays one, with a gradient that is finite."""
    return functional.normalize(vectors, dim=-1, eps=1e-6)


def _cosine(vectors: Tensor) -> Tensor:
    unit = _unit(vectors)
    return unit @ unit.T


def _floor(similarity: Tensor) -> float:
    """Stands for minus infinity, whose gradient would not be a number."""
    return float(torch.finfo(similarity.dtype).min) / 4


def _mean_pair(losses: Tensor, pairs: Tensor) -> Tensor:
    """Gives the mean over anchors (rows) that have pairs, of the mean over their pairs; 0 when there is none."""
    counts = pairs.sum(1)
    rows = losses.masked_fill(~pairs, 0.0).sum(1) / counts.clamp_min(1)
    return rows.sum() / (counts > 0).sum().clamp_min(1)
