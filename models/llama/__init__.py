"""Llama: a decoder with RMS norms, rotary positions, gated feed-forward layers and grouped keys and values, and its heads.

Touvron et al.: "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv 2302.13971; "Llama 2", 2023,
arXiv 2307.09288; Dubey et al.: "The Llama 3 Herd of Models", 2024, arXiv 2407.21783. TinyLlama (Zhang et al., 2024,
arXiv 2401.02385) and SmolLM2 (Ben Allal et al., 2025, arXiv 2502.02737) are shapes of it.
"""

from models.llama.config import LLAMA3_1, LlamaConfig, RopeScaling
from models.llama.model import LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel, frequencies

__all__ = [
    "LLAMA3_1",
    "LlamaConfig",
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    "LlamaModel",
    "RopeScaling",
    "frequencies",
]
