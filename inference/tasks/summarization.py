"""`summarization`: what an encoder-decoder writes from a text, by the settings that its folder has for summaries."""

import dataclasses

from inference.tasks.text2text_generation import Text2TextGeneration


@dataclasses.dataclass(frozen=True)
class Summarization(Text2TextGeneration):
    """For each text its summaries, the best first."""

    name = "summarization"
    key = "summary_text"
    example = ""
