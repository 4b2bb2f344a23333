"""Encoder-decoder Transformers: the code that BART, mBART, Marian, Whisper and the Transformer of 2017 share.

T5 uses the same stacks and model with other layers, positions and settings.

Vaswani et al.: "Attention Is All You Need", 2017, arXiv 1706.03762. The names of the settings are those of fairseq (Ott et
al., 2019, arXiv 1904.01038), from where they came into published `config.json`s.

A model takes `input_ids` and `decoder_input_ids`. To decode step by step, run the encoder once, into a cache:

    cache = model.apply(variables, input_ids, attention_mask, room=20, method="encode")
    outputs = model.apply(variables, decoder_input_ids=start, past_key_values=cache)
    outputs = model.apply(variables, decoder_input_ids=token, past_key_values=outputs.past_key_values)
"""
