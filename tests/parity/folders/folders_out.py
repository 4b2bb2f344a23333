"""What the table of folders that go out is made of: small models, trained here or random, and how two folders are compared."""

import dataclasses
import inspect
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from data.forms import PairForm, TextForm
from data.text.pairs import Pairs
from data.text.source import Text
from data.text.token_ids import with_token_ids
from data.text.tokenizers import Vocabulary
from experiments.assembly.assemble import assemble
from experiments.experiment import Experiment, Phase
from experiments.finish import export
from inference.pipeline import pipeline, writing_task
from models import hub
from objectives import CausalLM, Infilling, MaskedLM, Objective, ReplacedTokenDetection, Seq2Seq, SpanCorruption
from tests.parity.folders.published_tokenizers import ASKED, ODD, sentences
from tests.parity.reference import difference, perturbed, tensors, torch, transformers
from training.optimizers import AdamW
from training.parallel import Parallel
from training.step import host_values

SIZE, LONGEST, NEW, STEPS = 600, 48, 6, 12
PAIRS = "pairs.tsv"
BART = dict(
    vocab_size=SIZE,
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=24,
    decoder_ffn_dim=24,
    max_position_embeddings=LONGEST,
)
BERT = dict(
    vocab_size=SIZE,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=LONGEST,
)
GPT2 = dict(vocab_size=SIZE, n_embd=16, n_layer=1, n_head=2, n_positions=LONGEST)
T5 = dict(vocab_size=SIZE, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        shape: fields of the config.
        published: the tokenizers that it is published with, keys of `PUBLISHED`.
        objective: what it is trained for here.
        trained: the class that is trained, where it is not the one that is exported.
        ours: fields of our config alone.
    """

    model_type: str
    head: str
    shape: dict[str, Any]
    published: tuple[str, ...]
    objective: Objective
    trained: str = ""
    ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)


ARCHITECTURES = {
    "BERT": Architecture("bert", "BertForMaskedLM", BERT, ("vocab.txt", "BertTokenizer"), MaskedLM()),
    "DistilBERT": Architecture(
        "distilbert",
        "DistilBertForMaskedLM",
        dict(vocab_size=SIZE, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=LONGEST),
        ("vocab.txt", "BertTokenizer"),
        MaskedLM(),
    ),
    "ELECTRA": Architecture(
        "electra",
        "ElectraForPreTraining",
        {**BERT, "embedding_size": 8},
        ("vocab.txt", "BertTokenizer"),
        ReplacedTokenDetection(),
        trained="ElectraForJointPreTraining",
        ours={"generator_size": 0.5},
    ),
    "GPT-2": Architecture("gpt2", "GPT2LMHeadModel", GPT2, ("vocab.json of GPT-2", "GPT2Tokenizer"), CausalLM()),
    "DistilGPT-2": Architecture("gpt2", "GPT2LMHeadModel", {**GPT2, "n_embd": 8}, ("vocab.json of GPT-2",), CausalLM()),
    "Llama": Architecture(
        "llama",
        "LlamaForCausalLM",
        {**BERT, "num_key_value_heads": 1},
        ("tokenizer.model", "LlamaTokenizer", "tokenizer.json of Llama 3"),
        CausalLM(),
    ),
    "Transformer": Architecture("transformer", "TransformerForConditionalGeneration", BART, (), Seq2Seq()),
    "Marian": Architecture(
        "marian", "MarianMTModel", {**BART, "pad_token_id": 2, "decoder_start_token_id": 2}, ("source.spm",), Seq2Seq()
    ),
    "BART": Architecture(
        "bart", "BartForConditionalGeneration", BART, ("vocab.json of BART", "RobertaTokenizer"), Infilling()
    ),
    "mBART": Architecture(
        "mbart",
        "MBartForConditionalGeneration",
        BART,
        ("sentencepiece.bpe.model",),
        Infilling(infill_rate=0.35, mean_span=3.5),
    ),
    "T5": Architecture("t5", "T5ForConditionalGeneration", T5, ("spiece.model", "T5Tokenizer"), SpanCorruption()),
    "T5 1.1": Architecture(
        "t5",
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        ("spiece.model",),
        SpanCorruption(),
    ),
}


def write_texts(folder: Path) -> Path:
    """A folder of documents to train on, beside them a table of pairs: a sentence and its words from the last to the first."""
    folder.mkdir()
    for number, text in enumerate(sentences()):
        (folder / f"{number:03}.txt").write_text(text)
    pairs = (f"{text}\t{' '.join(reversed(text.split()))}\n" for text in sentences()[:200])
    (folder / PAIRS).write_text("one\tother\n" + "".join(pairs))
    return folder


# ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def config_of(architecture: Architecture, vocabulary: Vocabulary):
    """The config with the ids of special tokens that the tokenizer has."""
    config = hub.config_class(architecture.model_type)(**architecture.shape)
    return with_token_ids(config, vocabulary, vocabulary.pad if architecture.model_type == "t5" else vocabulary.eos)


def trained_here(architecture: Architecture, kind: str, folder: Path, texts: Path) -> tuple[Path, Tokenizer]:
    """The exported folder of a model after some steps of its objective, and the tokenizer whose ids it was trained on.

    Args:
        kind: of the tokenizer, which is trained on the same texts.
        texts: a folder of documents, beside a table of pairs; what is made of them is kept beside it.
    """
    common = dict(kind=kind, vocab_size=SIZE - 20, cache=str(texts.with_name("cache")))
    source, form = Text(source=str(texts), **common), TextForm(32)
    if type(architecture.objective) is Seq2Seq:  # of which others are subclasses
        source, form = Pairs(source=str(texts / PAIRS), features=("one", "other"), **common), PairForm(32, 32)
    return trained_and_exported(
        folder,
        architecture=architecture.trained or architecture.head,
        model=hub.config_class(architecture.model_type)(**architecture.shape, **architecture.ours),
        objective=architecture.objective,
        data=source,
        optimizer=AdamW(learning_rate=0.02, warmup_steps=2),
        phases=(Phase(1.0, form),),
    )


def trained_and_exported(folder: Path, **fields: Any) -> tuple[Path, Any]:
    """Train an experiment of these `fields` for `STEPS` steps, and export it as a run does.

    Returns the exported folder, and the tokenizer of the data where it has one. The loss must have gone down.
    """
    experiment = Experiment(
        name="trained-here",
        batch_size=16,
        steps=STEPS,
        parallel=Parallel(devices=1),
        folder=str(folder / "run"),
        **fields,
    )
    assembly = assemble(experiment)
    state, step = assembly.initial_state(), assembly.compile_train_step()
    losses = []
    for batch in assembly.batches(0, 0):
        state, metrics = step(state, assembly.spread.put_batch(batch))
        values = host_values(assembly.spread.host(metrics))
        losses.append(sum(values[name] for name in assembly.losses))
    assert len(losses) == STEPS and np.mean(losses[-3:]) < 0.95 * losses[0], losses
    experiment.run_folder.mkdir(parents=True)
    assembly.data.save(experiment.run_folder, experiment.form(-1))
    export(assembly, assembly.spread.gather(state.variables), folder / "model")
    return folder / "model", getattr(assembly.data, "tokenizer", None)


def their_model(architecture: Architecture, vocabulary: Vocabulary):
    """One of `transformers` with random parameters."""
    config = getattr(transformers, architecture.head).config_class
    shape = architecture.shape
    if architecture.model_type == "marian":  # whose tokenizer cannot decode an id beyond its own
        shape = {**shape, "vocab_size": vocabulary.size}
    named = dataclasses.asdict(config_of(architecture, vocabulary))
    ids = {name: index for name, index in named.items() if name.endswith("_token_id") and index is not None}
    return perturbed(architecture.head, config(**{**shape, **ids}))


# ── What is compared ─────────────────────────────────────────────────────────────────────────────────────────────────


def same_ids(ours: Tokenizer, theirs, size: int, texts=ODD) -> None:
    """Every text and every pair has the same ids, none of them beyond the model's embeddings, and no token was added."""
    assert len(theirs) == max(ours.get_vocab_size(), len(theirs.get_vocab())) <= size
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text).ids and max(ids, default=0) < size, text
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids, skip_special_tokens=True), text
    for first, second in itertools.pairwise(texts):
        both = theirs(first, second)
        assert both["input_ids"] == ours.encode(first, second).ids, (first, second)
        if "token_type_ids" in both:
            assert both["token_type_ids"] == ours.encode(first, second).type_ids
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        token = getattr(theirs, f"{role}_token")
        assert token is None or ours.token_to_id(token) == getattr(theirs, f"{role}_token_id") < size, role


def show(title: str, heads: tuple[str, ...], cells: Mapping[tuple[str, ...], Mapping[str, str]], mode: str) -> None:
    """Print a table of cells, and write it into the file that `LACUNA_TABLE` names.

    Args:
        heads: of the columns; those behind a cell's own names are the results'.
        mode: to open the file in.
    """
    rows = [[*cell, *(found.get(what, "") for what in heads[len(cell) :])] for cell, found in cells.items()]
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    print("\n" + "\n".join(lines))
    if os.environ.get("LACUNA_TABLE"):
        with open(os.environ["LACUNA_TABLE"], mode, encoding="utf-8") as file:
            file.write(f"{title}\n\n" + "\n".join(lines) + "\n")


apply = jax.jit(lambda model, variables, inputs: model.apply(variables, **inputs), static_argnums=0)


def same_outputs(folder: Path, theirs, tokenizer, imported: bool = False) -> float:
    """Largest difference between their outputs and ours, of a padded batch of three, as a share of the largest value.

    Args:
        imported: the folder's tokenizer files are not ours.
    """
    batch = dict(tokenizer(list(ASKED), padding="max_length", max_length=24, return_tensors="np"))
    assert batch["attention_mask"].sum(axis=1).min() < batch["attention_mask"].sum(axis=1).max() < 24
    places = batch["attention_mask"] > 0
    if theirs.config.is_encoder_decoder:
        start = theirs.config.decoder_start_token_id
        batch["decoder_input_ids"] = np.array([[2 if start is None else start, 7, 9, 11]] * 3)
        places = np.ones((3, 4), bool)
    model, variables = hub.load(folder)
    with torch.no_grad():
        expected = theirs(**tensors(batch))
    taken = inspect.signature(type(model).__call__).parameters
    assert set(batch) <= set(taken) or imported  # of a published folder some classes return what their models ignore
    found = apply(
        model, variables, {name: jnp.asarray(value, jnp.int32) for name, value in batch.items() if name in taken}
    )
    return difference(np.asarray(found["logits"])[places], expected["logits"].numpy()[places])


def same_text(folder: Path, theirs, tokenizer) -> list[str]:
    """What both write greedily for a padded batch of three, which is returned where it is the same."""
    asked = list(ASKED)
    ours = [
        answers[0]["generated_text"] for answers in pipeline(writing_task(folder), folder)(asked, max_new_tokens=NEW)
    ]
    batch = tokenizer(asked, padding=True, return_tensors="pt")
    with torch.no_grad():
        ids = theirs.generate(**batch, max_new_tokens=NEW, do_sample=False, num_beams=1)
    written = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    if not theirs.config.is_encoder_decoder:
        read = [tokenizer.decode(row, skip_special_tokens=True) for row in batch["input_ids"]]
        written = [text + whole[len(part) :] for text, part, whole in zip(asked, read, written, strict=True)]
    assert ours == written
    return ours
