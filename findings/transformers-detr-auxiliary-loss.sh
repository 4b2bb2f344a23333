#!/usr/bin/env bash
# One would guess: `auxiliary_loss` of a DetrConfig says which losses are computed in training; what a model predicts does not depend
# on it, as in the paper and in the code released with it, where each layer's output is normalised on the side for its losses.
# What happens: with it the decoder goes on with the normalised output of each layer, so that the same weights are another network:
# every logit and every box changes, in evaluation too.
# Whom it hurts: whoever loads published weights (trained in the paper's network) with auxiliary_loss=True to fine-tune them as the
# paper does, or evaluates with it: results are worse and nothing says why.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cat > "$place/detect.py" <<'PYTHON'
import torch
import transformers

settings = dict(
    use_timm_backbone=False,
    d_model=32,
    encoder_layers=1,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    num_queries=5,
    num_labels=4,
)


def model(auxiliary_loss):
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = transformers.DetrConfig(backbone_config=backbone, auxiliary_loss=auxiliary_loss, **settings)
    return transformers.DetrForObjectDetection(config).eval()


torch.manual_seed(0)
plain, auxiliary = model(False), model(True)
with torch.no_grad():
    for parameter in plain.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape))
    auxiliary.load_state_dict(plain.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    first, second = plain(pixel_values=pixels), auxiliary(pixel_values=pixels)
print(f"transformers {transformers.__version__}: the same weights, auxiliary_loss off and on")
for name in ("logits", "pred_boxes"):
    one, other = first[name], second[name]
    print(f"{name}: largest value {one.abs().max():.3f}, largest difference {(one - other).abs().max():.3f}")
assert not torch.allclose(first.logits, second.logits, atol=1e-2), "this has changed"
PYTHON
"$place/venv/bin/python" "$place/detect.py"
