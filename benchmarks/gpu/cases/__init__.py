"""Cases by kernel family: a file each with a list ``CASES``; a new family is one more line here."""

from benchmarks.gpu.case import Case
from benchmarks.gpu.cases import decoding, deformable_attention, folded, pooling, regions, transformer

FAMILIES = (pooling, deformable_attention, folded, decoding, regions, transformer)
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
