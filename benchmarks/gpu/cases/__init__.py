"""Cases by kernel family: a file each with a list ``CASES``; a new family is one more line here."""

from benchmarks.gpu.case import Case
from benchmarks.gpu.cases import decoding, deformable_attention, folded, pooling, transformer

CASES: list[Case] = [
    *pooling.CASES,
    *deformable_attention.CASES,
    *transformer.CASES,
    *folded.CASES,
    *decoding.CASES,
]
