"""BART fine-tuned to translate into English: a new encoder reads the other language, trained in two stages.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461, sections 3.4 and 5.4.

    lacuna train experiments/bart/translate.py          minutes on a laptop; --initial-model runs/bart-sibling begins there
    lacuna train experiments/bart/translate.py:ro_en --initial-model facebook/bart-large
    lacuna predict translation TEXT --model FOLDER

| WMT16, Romanian to English, BLEU (table 6) | |
|---|---|
| a Transformer-large, with back-translations | 36.80 |
| fixed BART: the first stage alone | 36.29 |
| tuned BART: both stages | 37.96 |

The word embeddings of BART's encoder are replaced by a source encoder of 6 layers, with a vocabulary of its own. In the first
stage that is trained, with BART's positions and the input projections of the attention in the first layer of BART's encoder;
everything else is frozen. In the second all parameters are trained, for a small number of steps. As published, WMT16 is
joined with the back-translations of Sennrich et al. (2016), which TFDS does not have, and beams are 5. Rates, batches and the
lengths of the stages are not published: what stands here are those of `experiments/mbart/translate.py`.
"""

import dataclasses

from flax.core import FrozenDict

from data.forms import PairForm
from data.text.pairs import Pairs
from evaluation.evaluation import Best
from experiments.bart.pretrain import demo
from experiments.experiment import Experiment, Phase
from experiments.small import BIBLE, on_test, translated, writing_sibling
from inference.tasks.translation import Translation
from models.bart_translation import BartTranslationConfig
from objectives import Seq2Seq
from training.optimizers import AdamW

ARCHITECTURE = "BartTranslationForConditionalGeneration"

FIRST = r"^model/source/|/position_embeddings/|^model/encoder/layers/0/attention/(query|key|value)/"
"""What the first stage trains."""


def stages(form: PairForm, first: float) -> tuple[Phase, ...]:
    """Both stages.

    Args:
        first: share of the steps of the first.
    """
    return Phase(first, form, FIRST), Phase(1 - first, form)


def bible() -> Experiment:
    """Verses of the Bible, Spanish to English, with the small BART of `experiments/bart/pretrain.py` behind two layers that read
    Spanish."""
    shape = {field.name: vars(demo().model)[field.name] for field in dataclasses.fields(demo().model)}
    return writing_sibling(
        "bart-bible",
        ARCHITECTURE,
        BartTranslationConfig(
            **shape, source_vocab_size=4_096, source_layers=2, source_attention_heads=4, source_ffn_dim=512
        ),
        Seq2Seq(label_smoothing=0.1),
        dataclasses.replace(BIBLE, features=("es", "en"), source_vocab_size=4_096),
        phases=stages(PairForm(64, 64, buckets=12), 0.5),
    )


def ro_en() -> Experiment:
    """WMT16's Romanian to English, with BART-large."""
    data = Pairs(
        source="wmt16_translate/ro-en", features=("ro", "en"), source_vocab_size=32_000, held_out_split="validation"
    )
    task = Translation(generation=FrozenDict(num_beams=5, max_length=200))
    steps = 60_000
    return Experiment(
        name="bart-large-ro-en",
        architecture=ARCHITECTURE,
        model=BartTranslationConfig.large(dtype="bfloat16", scan_layers=True, remat="dots", attention_dropout=0.1),
        objective=Seq2Seq(label_smoothing=0.2),
        data=data,
        optimizer=AdamW(learning_rate=3e-5, warmup_steps=2_500, b2=0.98, weight_decay=0.0, clip_norm=None),
        batch_size=256,
        steps=steps,
        phases=stages(PairForm(128, 128, buckets=16), 0.75),
        evaluate_every=5_000,
        checkpoint_every=5_000,
        evaluations=on_test(translated, task, data, steps, 1_999),
        best=Best("written/bleu", more_is_better=True),
        log_every=10,
    )
