"""Whisper's log-mel spectrograms, computed on the device.

Radford et al.: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356, section 2.2. The mel scale
and the heights of its triangles are Slaney's ("Auditory Toolbox", 1998, Interval Research technical report 1998-010).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

SAMPLING_RATE = 16_000
"""Samples per second."""
WINDOW, HOP = 400, 160
"""Length and stride of frames in samples: 25 ms and 10 ms."""
LINEAR_TO, PER_HERTZ, PER_LOG = 1_000.0, 3 / 200, 27 / math.log(6.4)
"""Slaney's scale: so many mels a hertz up to 1,000 Hz; above so many for a frequency that is e times as high."""
FLOOR, RANGE = 1e-10, 8.0
"""Least power, and powers of ten between the loudest and the quietest value of a clip."""


def mel_filters(mels: int) -> Float[np.ndarray, "mels frequencies"]:
    """Triangular filters from 0 to 8,000 Hz, equally spaced on the mel scale and of equal area, at a frame's 201 frequencies."""
    top = LINEAR_TO * PER_HERTZ + PER_LOG * math.log(SAMPLING_RATE / 2 / LINEAR_TO)
    points = np.linspace(0.0, top, mels + 2)
    corner = LINEAR_TO * PER_HERTZ
    edges = np.where(points < corner, points / PER_HERTZ, LINEAR_TO * np.exp((points - corner) / PER_LOG))
    frequencies = np.linspace(0.0, SAMPLING_RATE / 2, WINDOW // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0.0, np.minimum(rising, falling)) * 2 / (high - low)


@functools.partial(jax.jit, static_argnames="mels")
def log_mel(waveform: Float[Array, "*batch samples"], *, mels: int = 80) -> Float[Array, "*batch frames mels"]:
    """The log-mel spectrogram of clips at 16 kHz, one frame each 160 samples, in the dtype of the clips.

    Short-time Fourier transform with a Hann window, the clip reflected at its ends, the last frame dropped; power of each mel
    band, its logarithm to base 10 not below the clip's largest less 8, then (x + 4) / 4. What stands behind a shorter clip
    must be zeros: the model has learned silence as they come out.

    Args:
        waveform: (…, samples), a multiple of 160 and more than 200.

    Raises:
        ValueError: it has another length.
    """
    *_, samples = waveform.shape
    if samples % HOP or samples <= WINDOW // 2:
        raise ValueError(f"a clip of {samples} samples: expected a multiple of {HOP} above {WINDOW // 2}")
    sides = [(0, 0)] * (waveform.ndim - 1)
    logs = log_powers(jnp.pad(waveform, [*sides, (WINDOW // 2, WINDOW // 2)], mode="reflect"), mels=mels)
    return (jnp.maximum(logs, logs.max(axis=(-2, -1), keepdims=True) - RANGE) + 4) / 4


def log_mel_of_any_length(waveform: Float32[np.ndarray, " samples"], *, mels: int, window: int) -> np.ndarray:
    """`log_mel` of a recording with `window` samples of silence behind it, computed in parts of that length.

    Returns (frames, mels), float32; a frame each 160 samples, the last of the recording filled up with silence.
    """
    frames = -(-len(waveform) // HOP) + window // HOP
    parts = -(-frames * HOP // window)
    padded = np.pad(waveform, (WINDOW // 2, 0), mode="reflect" if len(waveform) > WINDOW // 2 else "constant")
    padded = np.pad(padded, (0, parts * window + WINDOW - len(padded)))
    rows = (padded[part * window : (part + 1) * window + WINDOW] for part in range(parts))
    logs = np.concatenate([np.asarray(log_powers(row, mels=mels)) for row in rows])[:frames]
    return (np.maximum(logs, logs.max() - RANGE) + 4) / 4


@functools.partial(jax.jit, static_argnames="mels")
def log_powers(padded: Float[Array, "*batch padded"], *, mels: int) -> Float[Array, "*batch frames mels"]:
    """The logarithm to base 10 of the power of each band, at least 10⁻¹⁰, of clips with half a frame before and behind."""
    frames = (padded.shape[-1] - WINDOW) // HOP
    blocks = padded[..., : (frames + WINDOW // HOP) * HOP].reshape(*padded.shape[:-1], -1, HOP)
    parts = [blocks[..., first : first + frames, :] for first in range(WINDOW // HOP + 1)]  # two hops and a half
    framed = jnp.concatenate(parts, axis=-1)[..., :WINDOW]
    hann = jnp.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW), padded.dtype)
    spectrum = jnp.fft.rfft(framed * jnp.broadcast_to(hann, framed.shape))
    power = spectrum.real**2 + spectrum.imag**2
    filters = jnp.asarray(mel_filters(mels).T, padded.dtype)
    return jnp.log10(jnp.maximum(jnp.tensordot(power, filters, axes=1, precision="highest"), FLOOR))
