"""Tiny models of `transformers` that write text, and the prompts and texts that they continue."""

import numpy as np

from tests.parity.reference import torch, transformers

VOCABULARY, PAD, NEW = 40, 39, 14


SIZES = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=PAD)


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZES, n_positions=40, n_embd=32, n_layer=2, n_head=4)
    )


def llama():
    config = transformers.LlamaConfig(
        **SIZES,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
    )
    return transformers.LlamaForCausalLM(config)


def prompts(batch: int = 6, length: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = (np.arange(length)[None] >= rng.integers(0, length - 1, batch)[:, None]).astype(np.int32)
    mask[0] = 1
    return np.where(mask > 0, rng.integers(3, PAD, (batch, length)), PAD), mask


ENDS = tuple(range(2, 9))
"""So many that texts end now and then."""


def t5(**version):
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        pad_token_id=PAD,
        eos_token_id=2,
        decoder_start_token_id=PAD,
        **version,
    )
    theirs = transformers.T5ForConditionalGeneration(config)
    if version:  # as 5 builds it the scores would be tied all the same
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 32) * 0.05)
    return theirs


def bart_like(kind: str, architecture: str, start: int, **changes):
    return getattr(transformers, architecture)(
        getattr(transformers, f"{kind}Config")(
            **SIZES,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=40,
            max_position_embeddings=24,
            decoder_start_token_id=start,
            **{"forced_eos_token_id": 2, **changes},
        )
    )


WRITERS = {
    "t5": t5,
    "t5 1.1": lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "bart": lambda: bart_like("Bart", "BartForConditionalGeneration", 2),
    "mbart": lambda: bart_like("MBart", "MBartForConditionalGeneration", 2, forced_bos_token_id=9),
    "marian": lambda: bart_like("Marian", "MarianMTModel", PAD, activation_function="swish", scale_embedding=True),
}


def texts(padding: str) -> tuple[np.ndarray, np.ndarray]:
    ids, mask = prompts()
    return (ids, mask) if padding == "left" else (ids[:, ::-1].copy(), mask[:, ::-1].copy())
