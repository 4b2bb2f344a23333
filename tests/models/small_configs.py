"""Small configs of every architecture, as the fields of a published `config.json`."""

from typing import Any

TEXT = dict(
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=20,
)
BERT = dict(TEXT, type_vocab_size=3)
BART = dict(
    vocab_size=60,
    d_model=16,
    encoder_layers=2,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=4,
    encoder_ffn_dim=24,
    decoder_ffn_dim=20,
    max_position_embeddings=20,
)
VIT = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    image_size=16,
    patch_size=4,
    num_channels=2,
)
DECODER = dict(
    decoder_hidden_size=8,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=12,
)
STAGES = dict(num_channels=2, hidden_sizes=[8, 12], depths=[1, 2])
MIX = dict(
    num_channels=2,
    hidden_sizes=[8, 12, 16, 20],
    num_attention_heads=[1, 2, 4, 5],
    depths=[1, 2, 1, 1],
    mlp_ratios=[2, 2, 3, 2],
)
SMALL: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "electra": dict(BERT, embedding_size=12),
    "distilbert": dict(vocab_size=60, max_position_embeddings=20, n_layers=2, n_heads=2, dim=16, hidden_dim=24),
    "gpt2": dict(
        vocab_size=60,
        n_positions=20,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_inner=24,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=5,
    ),
    "llama": dict(TEXT, num_key_value_heads=1, pad_token_id=5),
    "t5": dict(vocab_size=60, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=2),
    "bart": BART,
    "mbart": BART,
    "marian": dict(BART, pad_token_id=1, decoder_start_token_id=1),
    "whisper": dict(
        **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
        **dict(num_mel_bins=6, max_source_positions=10, max_target_positions=20, classifier_proj_size=12),
        **dict(pad_token_id=1, bos_token_id=2, eos_token_id=2, decoder_start_token_id=3),
        **dict(suppress_tokens=[7], begin_suppress_tokens=[8, 2], median_filter_width=5),
    ),
    "vit": dict(VIT, encoder_stride=4),
    "vit_mae": dict(VIT, **DECODER),
    "convnext": dict(STAGES, num_stages=2, patch_size=2, image_size=16),
    "resnet": dict(STAGES, embedding_size=6),
    "detr": dict(
        backbone_config=dict(
            model_type="resnet",
            embedding_size=6,
            hidden_sizes=[8, 8, 12, 12],
            depths=[1, 2, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        use_timm_backbone=False,
        num_queries=4,
        encoder_layers=2,
        encoder_ffn_dim=24,
        encoder_attention_heads=8,
        decoder_layers=2,
        decoder_ffn_dim=20,
        decoder_attention_heads=2,
        d_model=16,
    ),
    "mask2former": dict(
        backbone_config=dict(
            model_type="swin",
            embed_dim=8,
            depths=[1, 1, 2, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32,
        mask_feature_size=12,
        hidden_dim=16,
        num_attention_heads=2,
        encoder_layers=1,
        encoder_feedforward_dim=24,
        decoder_layers=3,
        dim_feedforward=20,
        num_queries=4,
    ),
    "swin": dict(
        image_size=32, num_channels=2, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4, patch_size=2
    ),
    "levit": dict(
        image_size=32,
        num_channels=2,
        hidden_sizes=[8, 16, 24],
        num_attention_heads=[1, 2, 3],
        depths=[1, 1, 2],
        key_dim=[4, 4, 4],
    ),
    "cvt": dict(num_channels=2, embed_dim=[8, 12, 16], num_heads=[1, 2, 4], depth=[1, 2, 3]),
    "segformer": MIX,
    "glpn": dict(MIX, decoder_hidden_size=12, max_depth=7),
    "wav2vec2": dict(
        vocab_size=24,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=[8, 6, 4],
        conv_kernel=[10, 3, 3],
        conv_stride=[5, 2, 2],
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=10,
        codevector_dim=8,
        proj_codevector_dim=12,
        classifier_proj_size=20,
    ),
}
"""Shapes that differ from the published ones: of every field here the comparison of the small models is one too."""
