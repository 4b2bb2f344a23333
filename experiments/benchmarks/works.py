"""What every benchmark of steps computes: the models, at the sizes that are timed, and what they are trained for.

Imported under the interpreter of any library that is measured: what belongs to one is imported where it is used.
"""

import dataclasses
import json
from typing import Any

from experiments.benchmarks.scene_works import SCENES
from experiments.benchmarks.work import Work

LENGTH, MASKED = 128, 20
"""Tokens of a text, and of those the masked ones in the batches of others."""
SIZE, LABELS = 224, 1_000
"""Pixels on a side of a picture, and its classes."""
SECONDS, SPOKEN = 5, 64
"""Length of a recording, and tokens of its transcript."""
WINDOW = 30
"""Seconds that a model of spectrograms sees at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextWork(Work):
    """Texts of `LENGTH` tokens.

    Attributes:
        target: tokens that the decoder of an encoder-decoder is asked for.
    """

    target: int | None = None
    batch: int = 16

    @property
    def items(self):
        return self.batch * LENGTH, "tokens"

    def data(self):
        from data.forms import TextForm
        from data.text.source import Text

        return Text(), TextForm(LENGTH)

    def drawn(self, name, shape, random):
        """Token ids; sentences of 16 tokens."""
        import numpy as np

        if name.endswith("tokens"):
            return random.integers(1_000, self.config["vocab_size"], shape, dtype=np.int32)
        if name.endswith("sentence_ids"):
            return np.broadcast_to(np.arange(shape[-1], dtype=np.int32) // 16, shape)
        return np.zeros(shape, np.int32)

    def batch_of_theirs(self, numpy):
        """As a collator hands it over: nothing is hidden. Labels are -100 where nothing is asked."""
        random = numpy.random.default_rng(0)
        input_ids = random.integers(1_000, self.config["vocab_size"], (self.batch, LENGTH), dtype=numpy.int64)
        batch = dict(input_ids=input_ids, attention_mask=numpy.ones_like(input_ids), labels=input_ids)
        if self.target is not None:
            batch["labels"] = random.integers(
                1_000, self.config["vocab_size"], (self.batch, self.target), dtype=numpy.int64
            )
        if "MaskedLM" in self.objective:
            batch["labels"] = numpy.full((self.batch, LENGTH), -100, numpy.int64)
            for row in range(self.batch):
                places = random.choice(LENGTH, MASKED, replace=False)
                batch["labels"][row, places] = input_ids[row, places]
        if "NextSentence" in self.objective:
            batch["token_type_ids"] = numpy.tile(numpy.arange(LENGTH) * 2 // LENGTH, (self.batch, 1))
            batch["next_sentence_label"] = random.integers(0, 2, self.batch)
        return batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageWork(Work):
    """Pictures of `SIZE` pixels on a side, of `LABELS` classes."""

    objective: str = "Classification"

    @property
    def published(self):
        names = {str(number): f"LABEL_{number}" for number in range(LABELS)}
        return {**self.config, "id2label": names, "label2id": {name: int(number) for number, name in names.items()}}

    def data(self):
        from data.forms import ImageForm
        from data.images.source import Images

        return Images(), ImageForm(SIZE)

    def drawn(self, name, shape, random):
        import numpy as np

        if name == "pixel_values":
            return random.integers(0, 256, shape, dtype=np.uint8)
        return random.integers(0, LABELS, shape, dtype=np.int32)

    def batch_of_theirs(self, numpy):
        random = numpy.random.default_rng(0)
        pixel_values = random.normal(size=(self.batch, 3, SIZE, SIZE)).astype(numpy.float32)
        return {"pixel_values": pixel_values, "labels": random.integers(0, LABELS, self.batch)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioWork(Work):
    """Recordings of `SECONDS`, transcribed, or pretrained on."""

    objective: str = "Ctc"

    @property
    def items(self):
        return self.batch * SECONDS, "seconds of audio"

    def data(self):
        from data.audio.source import Audio
        from data.audio.transcribed import Transcribed
        from data.forms import AudioForm

        if self.objective == "Contrastive":
            return Audio(), AudioForm(SECONDS * 16_000)
        return Transcribed(), AudioForm(SECONDS * 16_000, target=SPOKEN)

    def drawn(self, name, shape, random):
        import numpy as np

        if name == "input_values":
            return random.normal(size=shape).astype(np.float32)
        if name == "attention_mask":
            return np.ones(shape, np.int32)
        return random.integers(5, self.config["vocab_size"], shape, dtype=np.int32)

    def batch_of_theirs(self, numpy):
        random, shape = numpy.random.default_rng(0), (self.batch, SECONDS * 16_000)
        return {
            "input_values": random.normal(size=shape).astype(numpy.float32),
            "attention_mask": numpy.ones(shape, numpy.int64),
            "labels": random.integers(5, self.config["vocab_size"], (self.batch, SPOKEN)),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrogramWork(AudioWork):
    """Windows of `WINDOW` seconds and what is said in them. Ours makes the spectrograms within the step; theirs come ready."""

    objective: str = "Transcription"

    @property
    def items(self):
        return self.batch * WINDOW, "seconds of audio"

    def data(self):
        from data.audio.dictated import Dictated
        from data.forms import AudioForm

        return Dictated(), AudioForm(WINDOW * 16_000, target=SPOKEN)

    def batch_of_theirs(self, numpy):
        random = numpy.random.default_rng(0)
        features = random.normal(size=(self.batch, 80, WINDOW * 100)).astype(numpy.float32)
        return {
            "input_features": features,
            "labels": random.integers(5, self.config["vocab_size"], (self.batch, SPOKEN)),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningWork(Work):
    """Batches of real texts that a recipe fine-tunes on, as they lie in a folder; all of them are a step.

    Attributes:
        reference: the recipe.
        settings: of its data, in the place of those that it has.
        folder: where the batches are.
        batches: how many.
    """

    reference: str
    settings: dict[str, str]
    folder: str
    batches: int

    @classmethod
    def open(cls, folder: str) -> "TuningWork":
        """What `save` left there."""
        with open(f"{folder}/work.json", encoding="utf-8") as file:
            return cls(**json.load(file), folder=folder)

    def save(self, batches: list[dict[str, Any]], numpy) -> None:
        about = {name: value for name, value in vars(self).items() if name != "folder"}
        with open(f"{self.folder}/work.json", "w", encoding="utf-8") as file:
            json.dump(about, file)
        for number, batch in enumerate(batches):
            numpy.savez(f"{self.folder}/{number}.npz", **batch)

    @property
    def items(self):
        return self.batch * self.batches, "texts"

    def recipe(self) -> Any:
        """Our experiment."""
        from experiments.experiment import load

        recipe = load(self.reference)
        return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **self.settings), folder=self.folder)

    def batches_of_theirs(self, numpy):
        """Cut behind the longest text of each, as a collator pads them."""
        found = []
        for number in range(self.batches):
            with numpy.load(f"{self.folder}/{number}.npz") as file:
                batch = {name: file[name].astype(numpy.int64) for name in file.files}
            longest = batch["attention_mask"].sum(axis=-1).max()
            found.append({name: x[:, :longest] if x.ndim > 1 else x for name, x in batch.items()})
        return found


BERT = dict(vocab_size=30_522, num_hidden_layers=4, hidden_size=512, num_attention_heads=8, intermediate_size=2_048)
BART = dict(
    **dict(vocab_size=32_000, d_model=512, max_position_embeddings=LENGTH),
    **dict(encoder_layers=2, encoder_attention_heads=8, encoder_ffn_dim=2_048),
    **dict(decoder_layers=2, decoder_attention_heads=8, decoder_ffn_dim=2_048),
)
T5 = dict(
    **dict(decoder_start_token_id=0, vocab_size=32_128, d_model=512, d_kv=64),
    **dict(num_layers=2, num_decoder_layers=2, num_heads=8, dropout_rate=0.1),
)
VIT = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1_536, patch_size=16)
LLAMA = dict(
    **dict(vocab_size=32_000, hidden_size=512, intermediate_size=1_376, num_hidden_layers=4),
    **dict(num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=True),
)
DISTILBERT = dict(vocab_size=30_522, dim=512, n_layers=4, n_heads=8, hidden_dim=2_048)
GPT2 = dict(vocab_size=32_000, n_positions=LENGTH, n_embd=512, n_layer=4, n_head=8)
MARIAN = dict(BART, pad_token_id=1, decoder_start_token_id=1)
T5_1_1 = dict(T5, d_ff=1_024, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
TEXTS = {
    name: TextWork(
        architecture=architecture,
        model_type=name.partition("-")[0],
        config=config,
        objective=objective,
        target={"Infilling": LENGTH, "SpanCorruption": 29}.get(objective),
    )
    for name, architecture, config, objective in (
        ("bert", "BertForPreTraining", BERT, "MaskedLM+NextSentence"),
        ("distilbert", "DistilBertForMaskedLM", DISTILBERT, "MaskedLM"),
        ("gpt2", "GPT2LMHeadModel", GPT2, "CausalLM"),
        ("llama", "LlamaForCausalLM", LLAMA, "CausalLM"),
        ("marian", "MarianMTModel", MARIAN, "Infilling"),
        ("bart", "BartForConditionalGeneration", BART, "Infilling"),
        ("mbart", "MBartForConditionalGeneration", BART, "Infilling"),
        ("t5", "T5ForConditionalGeneration", dict(T5, d_ff=2_048), "SpanCorruption"),
        ("t5-v1.1", "T5ForConditionalGeneration", T5_1_1, "SpanCorruption"),
    )
}
"""Four layers × 512 (two and two where there are an encoder and a decoder), about 30 million parameters."""
IMAGES = {
    name: ImageWork(architecture=architecture, model_type=model_type, batch=batch, config=config)
    for name, model_type, architecture, batch, config in (
        ("resnet50", "resnet", "ResNetForImageClassification", 8, {}),
        ("convnext-tiny", "convnext", "ConvNextForImageClassification", 4, {"drop_path_rate": 0.1}),
        ("vit-small", "vit", "ViTForImageClassification", 8, VIT),
    )
}
AUDIO = {
    "wav2vec2-base": AudioWork(
        architecture="Wav2Vec2ForCTC", model_type="wav2vec2", batch=2, config=dict(vocab_size=32, layerdrop=0.0)
    ),
    "wav2vec2-base-pretraining": AudioWork(
        architecture="Wav2Vec2ForPreTraining",
        model_type="wav2vec2",
        objective="Contrastive",
        batch=2,
        config=dict(vocab_size=32, layerdrop=0.0),
    ),
    "whisper-tiny": SpectrogramWork(
        architecture="WhisperForConditionalGeneration",
        model_type="whisper",
        batch=2,
        config=dict(vocab_size=51_864, eos_token_id=0, pad_token_id=0, bos_token_id=0, decoder_start_token_id=1),
    ),
}
TINY = {
    "tiny-bert": TEXTS["bert"].tiny(
        vocab_size=2_000, num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=32
    ),
    "tiny-vit": IMAGES["vit-small"].tiny(
        num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=32
    ),
}
"""Models of no interest, to see in seconds that a benchmark runs."""
WORK = TEXTS | IMAGES | SCENES | AUDIO | TINY
