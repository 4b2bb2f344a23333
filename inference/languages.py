"""The languages of a translator: how it is asked for them, as it was trained.

mBART has a token for each (Liu et al., 2020, arXiv 2001.08210; Tang et al., 2020, arXiv 2008.00401), which stands behind or
before the text that is read, and begins the one that is written. Marian models of several targets read `>>fr<<` before the
text. T5 is asked in words (Raffel et al., 2019, arXiv 1910.10683), which the folder's `config.json` has.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flax.core import FrozenDict
from tokenizers import Tokenizer

from data.errors import DataError
from data.text.framing import CODE, Framing
from models.config import ModelConfig, ModelError, nearest

TARGET = re.compile(r">>(.+)<<")
"""A token that is a language to translate into: Marian's `>>fr<<`."""

PAIR = re.compile(r"translation_(\w+)_to_(\w+)")
"""The task of a pair of languages."""


@dataclasses.dataclass(frozen=True)
class Direction:
    """How a translator is asked for a pair of languages.

    Attributes:
        framing: what stands around a text that it reads; what the tokenizer puts there where `None`.
        before: tokens before the text.
        prefix: words before the text; those of the task where `None`.
        generation: settings of generation.
    """

    framing: Framing | None = None
    before: tuple[int, ...] = ()
    prefix: str | None = None
    generation: Mapping[str, Any] = FrozenDict()


@dataclasses.dataclass(frozen=True)
class Languages:
    """The languages that a folder names.

    Attributes:
        codes: {language: token} of those that are read and written, as mBART has them.
        targets: {language: token} of those that may be asked for before the text, as Marian has them.
        tasks: {(source, target): settings} of pairs that are asked for in words, as T5 has them.
        pair: the languages of a translator that has only those.
        framing: what the tokenizer puts around a text.
        started: whether the language is the very first token that is written, rather than the one behind it; told by the
            tokenizer's frame where it has a language.
    """

    codes: Mapping[str, int] = FrozenDict()
    targets: Mapping[str, int] = FrozenDict()
    tasks: Mapping[tuple[str, str], Mapping[str, Any]] = FrozenDict()
    pair: tuple[str | None, str | None] = (None, None)
    framing: Framing = Framing()
    started: bool = False

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, config: ModelConfig, published: Mapping[str, Any], about: Mapping[str, Any]
    ) -> "Languages":
        """Those of a folder, by its tokenizer, `config.json` and `tokenizer_config.json`."""
        ids = tokenizer.get_vocab(with_added_tokens=True)
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        codes = {name: ids[name] for name in special if CODE.fullmatch(name)}
        targets = {match[1]: ids[token] for token in ids if (match := TARGET.fullmatch(token))}
        tasks = {
            (match[1], match[2]): special
            for task, special in (published.get("task_specific_params") or {}).items()
            if (match := PAIR.fullmatch(task)) and isinstance(special, Mapping)
        }
        pair = about.get("source_lang"), about.get("target_lang")
        framing = Framing.of(tokenizer) if codes or targets else Framing()
        languages = set(codes.values())
        started = bool(languages & set(framing.end)) or (
            not languages & set(framing.begin) and config.decoder_start_token_id in languages
        )
        return cls(codes, targets, tasks, pair, framing, started)

    def direction(self, source: str | None, target: str | None) -> Direction:
        """How to ask for a translation from `source` into `target`; what is `None` is as the folder has it.

        Raises:
            ModelError: the model does not know a language, or the folder names none.
        """
        if source is None and target is None:
            return Direction()
        if self.codes:
            return self._by_tokens(source, target)
        if self.targets:
            self._check_pair(source, None)
            if target is None:
                return Direction()
            return Direction(self.framing, before=(known(target, self.targets),))
        if self.tasks:
            return self._in_words(source, target)
        self._check_pair(source, target)
        return Direction()

    def _by_tokens(self, source: str | None, target: str | None) -> Direction:
        framing = self.framing
        if source is not None:
            token, languages = known(source, self.codes), set(self.codes.values())
            try:
                framing = framing.in_language(token, languages)
            except DataError as error:
                raise ModelError(f"there is no place for {source!r}: {error}") from None
        generation = {}
        if target is not None:
            name = "decoder_start_token_id" if self.started else "forced_bos_token_id"
            generation = {name: known(target, self.codes)}
        return Direction(framing, generation=generation)

    def _in_words(self, source: str | None, target: str | None) -> Direction:
        pairs = [f"{one} to {other}" for one, other in self.tasks]
        if source is None or target is None:
            raise ModelError(f"this model is asked for pairs of languages: give both; known: {', '.join(pairs)}")
        by_words = {
            match.groups(): pair
            for pair, special in self.tasks.items()
            if (match := re.match(r"translate (\w+) to (\w+)", special.get("prefix") or ""))
        }
        pair = (source, target)
        special = self.tasks.get(pair, self.tasks.get(by_words.get(pair)))
        if special is None:
            raise ModelError(f"the model was not trained for {source} to {target}: {nearest(' to '.join(pair), pairs)}")
        generation = {name: value for name, value in special.items() if name != "prefix"}
        return Direction(prefix=special.get("prefix") or "", generation=generation)

    def _check_pair(self, source: str | None, target: str | None) -> None:
        for name, asked, its in (("source", source, self.pair[0]), ("target", target, self.pair[1])):
            if asked is None or asked == its:
                continue
            if its is None:
                raise ModelError(
                    f"the folder does not say which languages its model translates, so {asked!r} cannot be asked for: leave the"
                    f" languages out, or give its tokenizer_config.json a {name}_lang"
                )
            raise ModelError(f"the model's {name} language is {its!r}, and {asked!r} was asked for")


def known(name: str, languages: Mapping[str, int]) -> int:
    """The token of a language.

    Raises:
        ModelError: there is none, with the nearest that there is.
    """
    if name not in languages:
        raise ModelError(f"the tokenizer knows no language {name!r}: {closest(name, languages)}")
    return languages[name]


def closest(name: str, languages: Iterable[str]) -> str:
    """The nearest languages: by the code before the `_` where one begins alike."""
    alike = sorted(one for one in languages if one.lower().startswith(name.lower().partition("_")[0]))
    return f"did you mean {alike[0]!r}? known: {', '.join(languages)}" if alike else nearest(name, list(languages))
