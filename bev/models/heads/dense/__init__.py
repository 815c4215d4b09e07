"""Dense 2D heads: a network, priors, a coder, a criterion and a decoder, each of them a part."""

from bev.models.heads.dense.aligned_towers import AlignedTowers
from bev.models.heads.dense.anchor_criterion import AnchorCriterion
from bev.models.heads.dense.attention_towers import AttentionTowers
from bev.models.heads.dense.centerness_criterion import CenternessCriterion
from bev.models.heads.dense.coupled_convs import CoupledConvs
from bev.models.heads.dense.decoder import DenseDecoder
from bev.models.heads.dense.distribution_criterion import DistributionCriterion
from bev.models.heads.dense.grid_criterion import GridCriterion
from bev.models.heads.dense.head import DenseHead
from bev.models.heads.dense.lead_guided_head import LeadGuidedHead
from bev.models.heads.dense.level_towers import LevelTowers
from bev.models.heads.dense.light_towers import LightTowers
from bev.models.heads.dense.mixture_criterion import MixtureCriterion
from bev.models.heads.dense.objectness_criterion import ObjectnessCriterion
from bev.models.heads.dense.one_to_one_criterion import OneToOneCriterion
from bev.models.heads.dense.paired_head import PairedHead
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.heads.dense.quality_criterion import QualityCriterion
from bev.models.heads.dense.ratio_criterion import RatioCriterion
from bev.models.heads.dense.separable_towers import SeparableTowers
from bev.models.heads.dense.shared_towers import SharedTowers
from bev.models.heads.dense.switch_criterion import SwitchCriterion
from bev.models.heads.dense.taught_head import TaughtHead

__all__ = [
    "AlignedTowers",
    "AnchorCriterion",
    "AttentionTowers",
    "CenternessCriterion",
    "CoupledConvs",
    "DenseDecoder",
    "DenseHead",
    "DensePredictions",
    "DistributionCriterion",
    "GridCriterion",
    "LeadGuidedHead",
    "LevelTowers",
    "LightTowers",
    "MixtureCriterion",
    "ObjectnessCriterion",
    "OneToOneCriterion",
    "PairedHead",
    "QualityCriterion",
    "RatioCriterion",
    "SeparableTowers",
    "SharedTowers",
    "SwitchCriterion",
    "TaughtHead",
]
