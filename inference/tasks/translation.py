"""`translation`, also with its languages as `translation_fr_XX_to_de_DE`."""

import dataclasses

from inference.languages import PAIR
from inference.tasks.text2text_generation import Text2TextGeneration


@dataclasses.dataclass(frozen=True)
class Translation(Text2TextGeneration):
    """For each text its translations, the best first."""

    name = "translation"
    key = "translation_text"
    example = ""

    @classmethod
    def of_name(cls, name: str) -> "Translation | None":
        pair = PAIR.fullmatch(name)
        return cls(source_language=pair[1], target_language=pair[2]) if pair else super().of_name(name)
