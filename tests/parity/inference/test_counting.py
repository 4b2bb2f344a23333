"""Language models trained here stop in `transformers` where a document does, asked with what their folder says alone."""

import pytest

from tests.counting import PROMPTS, counting_model
from tests.parity.reference import torch, transformers


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_ends_where_a_document_does(name, tmp_path):
    folder = counting_model(name, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for prompt, rest in PROMPTS.items():
        inputs = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            written = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert tokenizer.decode(written, skip_special_tokens=True) == rest
        assert len(written) < 40 and int(written[-1]) == model.config.eos_token_id
