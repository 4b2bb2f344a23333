"""A model as `lm-evaluation-harness` asks for one (extra `harness`): log-likelihoods of continuations, and generated text.

    from lm_eval import simple_evaluate
    from inference.harness import HarnessModel

    simple_evaluate(model=HarnessModel("runs/gpt2-demo/model"), tasks=["lambada_openai"])

`lacuna harness` does the same. What a context begins with, how texts are split into tokens and where a long one is cut follow the
harness' own adapter for `transformers`, so that the figures of both can be compared.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from inference import tasks
from inference.generation import writes_anew
from inference.likelihood import token_log_probabilities, windows
from inference.readers.text import TextReader
from inference.tasks.perplexity import WITHOUT_LIMIT, prefix_of
from models import hub
from models.config import ModelError

NEW_TOKENS = 256
"""Tokens that are written at most where a task says nothing, as in the harness."""


@dataclasses.dataclass(frozen=True)
class LastTokens(TextReader):
    """Reads no more of a prompt than its last `room` tokens."""

    room: int = WITHOUT_LIMIT

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(self.framing.prompt(encoding.ids) or [prefix_of(self)])[-self.room :] for encoding in encodings]

    def sources(self, texts: Sequence[str], framing: Any, before: Sequence[int] = ()) -> list[list[int]]:
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [framing.text([*before, *encoding.ids])[-self.room :] for encoding in encodings]


class HarnessModel(TemplateLM):
    """The model of a checkpoint folder, or of a name on the Hugging Face hub.

    Args:
        folder: of a decoder with a language model's head, or of an encoder-decoder.

    Raises:
        ModelError: the folder is no checkpoint, or its model writes no text.
    """

    def __init__(self, folder: str | Path):
        super().__init__()
        folder = hub.checkpoint_folder(folder)
        model, variables = hub.load(folder)
        writes = writes_anew(model)
        self.backend = "seq2seq" if writes else "causal"
        self.task = tasks.named("text2text-generation" if writes else "text-generation")
        try:
            self.task.check(model)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from None
        self.reader = TextReader.open(model, variables, folder, self.task.name)
        self.folder = str(folder)

    @property
    def max_length(self) -> int:
        """Tokens that the model has room for."""
        return self.reader.model.config.longest_input or WITHOUT_LIMIT

    @property
    def eot_token_id(self) -> int:
        end = self.reader.vocabulary.eos
        return self.prefix_token_id if end is None else end

    @property
    def prefix_token_id(self) -> int:
        return prefix_of(self.reader)

    @property
    def tokenizer_name(self) -> str:
        return self.folder.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text: of a decoder with what begins a prompt, of an encoder-decoder with what stands around a source.

        A text that begins with the token that begins texts is not given another.
        """
        ids, framing = self.reader.tokenizer.encode(string, add_special_tokens=False).ids, self.reader.framing
        if add_special_tokens is False or (add_special_tokens is None and ids[:1] == [self.prefix_token_id]):
            return ids
        return framing.prompt(ids) if self.backend == "causal" else framing.text(ids)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether each token is the likeliest) of each continuation; a context loses its first
        tokens where both are too long."""
        longest, pairs = self.max_length, []
        for texts, context, continuation in requests:
            if len(continuation) > longest:
                raise ModelError(
                    f"a continuation of {len(continuation)} tokens does not fit a model with room for {longest}: {texts[1]!r:.60}"
                )
            kept = longest + 1 - len(continuation) if self.backend == "causal" else longest
            pairs.append((context[-kept:], continuation))
        scored = token_log_probabilities(self.reader.model, self.reader.variables, pairs, self._start)
        answers = [(float(log_probabilities.sum()), bool(likeliest.all())) for log_probabilities, likeliest in scored]
        for (texts, *_), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text, in nats, read in windows."""
        answers = []
        for (text,) in (request.args for request in requests):
            ids = self.tok_encode(text)
            cut = [(None, *pair) for pair in windows(ids, self.prefix_token_id, self.max_length)]
            if self.backend == "seq2seq":  # an encoder reads the one token before a window, its decoder the window
                cut = [(None, [context[-1]], continuation) for _, context, continuation in cut]
            answers.append(sum(value for value, _ in self._loglikelihood_tokens(cut)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), answers[-1])
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes for each context, up to the first of its stop strings."""
        answers: dict[int, str] = {}
        order = sorted(range(len(requests)), key=lambda place: repr(requests[place].args[1]))
        for _, alike in itertools.groupby(order, key=lambda place: repr(requests[place].args[1])):
            places = list(alike)
            settings = normalize_gen_kwargs(dict(requests[places[0]].args[1]), NEW_TOKENS)
            end = self.reader.vocabulary.tokens[self.eot_token_id]
            stops = handle_stop_sequences(settings.pop("until", None), eos=end)
            settings["stop_strings"] = tuple(filter(None, stops))
            written = self._written([requests[place].args[0] for place in places], settings)
            for place, text in zip(places, written, strict=True):
                answers[place] = postprocess_generated_text(text, stops, None)
                self.cache_hook.add_partial("generate_until", requests[place].args, answers[place])
        return [answers[place] for place in range(len(requests))]

    def _written(self, contexts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        new, causal = settings.pop("max_gen_toks"), self.backend == "causal"
        room = self.max_length - new if causal else self.max_length
        if room < 1 or new > self.max_length:
            raise ModelError(
                f"max_gen_toks={new}: a model with room for {self.max_length} tokens has none for a context"
            )
        if not settings.get("do_sample"):
            settings.pop("temperature", None)
        fields = {field.name: vars(self.reader)[field.name] for field in dataclasses.fields(self.reader)}
        task = self.task.changed(max_new_tokens=new, **({"return_full_text": False} if causal else {}), **settings)
        reader, texts = LastTokens(**fields, room=room), []
        for begin in range(0, len(contexts), 32):
            answers = task.answers(reader, contexts[begin : begin + 32], first=begin)
            texts += [answer[0]["generated_text"] for answer in answers]
        return texts

    @property
    def _start(self) -> int | None:
        config = self.reader.model.config
        start = config.decoder_start_token_id if self.backend == "seq2seq" else None
        return config.bos_token_id if start is None else start
