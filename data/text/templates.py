"""The special tokens of tokenizers that are trained here, and what stands around texts: as each architecture is published.

BERT: Devlin et al., 2018, arXiv 1810.04805. GPT-2: Radford et al., 2019. Llama: Touvron et al., 2023, arXiv 2302.13971. BART:
Lewis et al., 2019, arXiv 1910.13461. T5: Raffel et al., 2019, arXiv 1910.10683. mBART: Liu et al., 2020, arXiv 2001.08210.
Marian: Tiedemann & Thottingal, 2020 (OPUS-MT).
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping

from tokenizers import AddedToken, Tokenizer, processors

from data.errors import DataError
from data.text.framing import Framing

FAMILIES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>", "<|finetune_right_pad_id|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<cls>"),
    "sep": ("[SEP]", "</s>", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<|begin_of_text|>", "<|endoftext|>", "[CLS]"),
    "eos": ("</s>", "<|end_of_text|>", "<|endoftext|>", "[SEP]"),
}
"""What the published families call a special token; of several that are there the first is meant."""

ADDED = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
"""What a role is called where an objective needs it and the architecture has none."""

MASK = "<mask>"
SENTINEL = "<extra_id_{}>"
"""Both stand for words together with the space before them, where tokens carry that."""


@dataclasses.dataclass(frozen=True)
class Template:
    """The special tokens of a tokenizer and what stands around texts.

    Attributes:
        tokens: the special tokens, in the order of their ids, from 0 on.
        single: around a text, in the notation of `tokenizers`.
        pair: around two.
    """

    tokens: tuple[str, ...]
    single: str = "$A"
    pair: str = "$A $B"

    def having(self, roles: Iterable[str]) -> "Template":
        """The same with a token for each of `roles`, of which an architecture may have none."""
        tokens = list(self.tokens)
        for role in roles:
            if role in FAMILIES and not set(FAMILIES[role]) & set(tokens):
                tokens.append(ADDED[role])
        return dataclasses.replace(self, tokens=tuple(tokens))

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]

    def added_tokens(self, sentinels: int = 0) -> list[AddedToken]:
        """The special tokens as a tokenizer takes them: `<mask>` and sentinels swallow the space before them."""
        names = [*self.tokens, *(SENTINEL.format(i) for i in range(sentinels))]
        spaced = {MASK, *names[len(self.tokens) :]}
        return [AddedToken(name, lstrip=name in spaced, normalized=False, special=True) for name in names]

    @property
    def framing(self) -> Framing:
        """What stands around texts, where ids are places among `tokens`."""
        single, pair = ([part.split(":")[0] for part in way.split()] for way in (self.single, self.pair))
        begin, end = self._runs(single, ("$A",))
        pair_begin, between, pair_end = self._runs(pair, ("$A", "$B"))
        second = next(part for part in self.pair.split() if part.startswith("$B"))
        return Framing(begin, end, pair_begin, between, pair_end, int(second.partition(":")[2] or 0))

    def _runs(self, parts: list[str], texts: tuple[str, ...]) -> list[tuple[int, ...]]:
        edges = [-1, *(parts.index(text) for text in texts), len(parts)]
        return [
            tuple(self.tokens.index(token) for token in parts[one + 1 : other])
            for one, other in itertools.pairwise(edges)
        ]

    def frame(self, tokenizer: Tokenizer) -> None:
        """Have `tokenizer` put around texts what this says."""
        used = {part.split(":")[0] for part in f"{self.single} {self.pair}".split() if not part.startswith("$")}
        tokenizer.post_processor = processors.TemplateProcessing(
            single=self.single,
            pair=self.pair,
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in sorted(used)],
        )


BERT = Template(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
BART = Template(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s> $A </s>", "<s> $A </s> </s> $B </s>")
T5 = Template(("<pad>", "</s>", "<unk>", "<s>", "<mask>"), "$A </s>", "$A </s> $B </s>")
# fmt: off
LANGUAGES = (
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN",
    "hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP",
    "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN",
)
# fmt: on
"""mBART's (cc25), in the order of their ids."""

TEMPLATES: Mapping[str, Template] = {
    "bert": BERT,
    "distilbert": BERT,
    "electra": BERT,
    "gpt2": Template(("<|endoftext|>", "<mask>")),
    "llama": Template(("<unk>", "<s>", "</s>"), "<s> $A", "<s> $A <s> $B"),
    "bart": BART,
    "bart_translation": BART,
    "t5": T5,
    "mbart": Template((*BART.tokens, *LANGUAGES), "$A </s> {language}", "$A $B </s> {language}"),
    "marian": Template(("</s>", "<unk>", "<pad>"), "$A </s>", "$A </s> $B </s>"),
    "transformer": Template(BART.tokens, "$A </s>", "$A </s> $B </s>"),
}
"""By the model type of the architecture. GPT-2's has a mask token beside what it is published with, so that a folder names
one that is among the embeddings."""

DEFAULTS = {"wordpiece": "bert", "byte_bpe": "bart", "unigram": "t5"}
"""By the kind of tokenizer, where no architecture is named."""


def template(name: str, language: str = "en") -> Template:
    """The template of an architecture.

    Args:
        name: a key of `TEMPLATES`.
        language: ISO 639-1 code, which mBART's texts end with.

    Raises:
        DataError: there is none of that name, or none in that language.
    """
    if name not in TEMPLATES:
        raise DataError(f"there is no template {name!r} for a tokenizer: set --data.template to {', '.join(TEMPLATES)}")
    found = TEMPLATES[name]
    if "{language}" not in found.single:
        return found
    code = next((code for code in LANGUAGES if code.startswith(f"{language}_")), None)
    if code is None:
        raise DataError(f"{name} has no token for the language {language!r}: it has {', '.join(LANGUAGES)}")
    return dataclasses.replace(found, single=found.single.format(language=code), pair=found.pair.format(language=code))
