"""What this machine's processors can do at most, to hold a measured speed against."""

import resource
import sys
import time

import jax
import jax.numpy as jnp

PEAK_FLOPS: dict[str, float] = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}
"""Dense bf16 FLOP/s of one device, from the makers' data sheets, by the beginning of `device_kind`."""


def peak_flops(dtype: str) -> tuple[float, str]:
    """FLOP/s of one device and how it is known: a data sheet's, or (CPU) the best of a few matrix products just now."""
    device = jax.devices()[0]
    for kind in sorted(PEAK_FLOPS, key=len, reverse=True):
        if device.device_kind.startswith(kind):
            return PEAK_FLOPS[kind], f"data sheet of {kind}, bf16"
    if device.platform != "cpu":
        return 0.0, f"unknown for {device.device_kind}"
    return reached_flops(dtype), f"measured: 2048³ {dtype} product on the CPU"


def reached_flops(dtype: str) -> float:
    """FLOP/s of the best of a few matrix products on one device, just now."""
    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        product(matrix).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


def peak_memory() -> dict[str, int]:
    """Most memory in use so far, bytes: `device_peak_bytes` of this process' fullest device.

    Where devices do not say (the CPU does not) it is `process_peak_bytes`: the most of this process that was in memory.
    """
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    known = [peak for peak in peaks if peak is not None]
    if known:
        return {"device_peak_bytes": max(known)}
    unit = 1 if sys.platform == "darwin" else 1024  # man getrusage: kilobytes on Linux
    return {"process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
