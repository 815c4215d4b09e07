"""Two-stage detection: proposals from a dense head, and a head over the features of regions."""

from bev.models.heads.two_stage.proposals import ProposalConvs, ProposalDecoder
from bev.models.heads.two_stage.region_criterion import RegionCriterion
from bev.models.heads.two_stage.region_head import RegionFeatures, RegionHead, SharedLayers
from bev.models.heads.two_stage.sampling import RandomSampler
from bev.models.heads.two_stage.two_stage_head import TwoStageHead

__all__ = [
    "ProposalConvs",
    "ProposalDecoder",
    "RandomSampler",
    "RegionCriterion",
    "RegionFeatures",
    "RegionHead",
    "SharedLayers",
    "TwoStageHead",
]
