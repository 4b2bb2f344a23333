"""Installs the project: its folders are the top-level packages, `lacuna` is the command."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("data", "evaluation", "experiments", "inference", "models", "objectives", "training")

setup(
    name="lacuna-jax",
    version="0.1.0",
    description="Pretraining experiments in JAX: an architecture is a pure Flax module, an objective two pure functions",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "tensorflow-datasets>=4.9.10",
        "einops>=0.8.2",
        "grain>=0.2.18",
        "cloudpickle>=3",
        "array_record>=0.8.3",
        "importlib_resources>=6.5",
        "sentencepiece>=0.2.0",
        "tokenizers>=0.22",
        "safetensors>=0.6",
        "huggingface_hub>=0.34",
        "sentencex>=1.0.32",
        "mwparserfromhell>=0.7.2",
        "jaxtyping>=0.3.3",
        "tyro>=1.0",
        "rich>=14",
        "tensorboardX>=2.6.4",
        "matplotlib>=3.10",
        "pillow>=11",
    ],
    extras_require={
        "metrics": ["scikit-learn>=1.7", "sacrebleu>=2.5", "rouge-score>=0.1.2", "seqeval>=1.2.2", "jiwer>=4"],
        "audio": ["soundfile>=0.13", "soxr>=1.0", "av>=15"],
        "demo": ["gensim>=4.4", "scikit-learn>=1.7"],
        "test": [
            "pytest>=9",
            "pytest-xdist>=3.8",
            "hypothesis>=6.150",
            "beartype>=0.22",
            "ruff>=0.14",
            "seqeval>=1.2.2",
            "gensim>=4.4",
            "scikit-learn>=1.7",
            "sacrebleu>=2.5",
            "rouge-score>=0.1.2",
            "jiwer>=4",
            "soundfile>=0.13",
            "soxr>=1.0",
            "av>=15",
        ],
        "parity": ["torch==2.13.0", "transformers>=5.23", "lm-eval>=0.4.13", "accelerate>=1.10"],
        "harness": ["lm-eval>=0.4.13"],
        "wandb": ["wandb>=0.20"],
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda13]"],
    },
    entry_points={"console_scripts": ["lacuna=experiments.cli:main"]},
)
