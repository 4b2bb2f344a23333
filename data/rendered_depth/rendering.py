"""Rooms with spheres and boxes in them, rendered by casting a ray through each pixel; the depth of each is known exactly."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

HEIGHT, WIDTH = 96, 128

NEAREST = 0.3
"""Metres before which nothing stands."""

Vectors = np.ndarray
"""[..., 3]: right, up, forward, in metres."""


class Hits(NamedTuple):
    """Where rays meet a surface: how far along (infinite where they do not), its normal and its colour there."""

    along: np.ndarray
    normal: Vectors
    color: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A picture and the depth of its pixels along the camera's axis in metres, 0 behind the window, where nothing is known."""

    picture: UInt8[np.ndarray, "height width 3"]
    depth: Float32[np.ndarray, "height width"]


@dataclasses.dataclass(frozen=True)
class Camera:
    """Where rays begin, and their directions, whose part along the camera's axis is 1: what is `along` is the depth."""

    eye: np.ndarray
    rays: Vectors

    @classmethod
    def drawn(cls, generator: np.random.Generator, height: int, width: int) -> "Camera":
        """At the height of eyes, looking down a little."""
        focal = width / 2 / np.tan(np.radians(generator.uniform(55, 70) / 2))
        right = (np.arange(width) + 0.5 - width / 2) / focal
        up = -(np.arange(height) + 0.5 - height / 2) / focal
        pitch = np.radians(generator.uniform(2, 18))
        x, y = np.meshgrid(right, up)
        sin, cos = np.sin(pitch), np.cos(pitch)
        rays = np.stack([x, cos * y - sin, sin * y + cos], axis=-1)
        return cls(np.array([generator.uniform(-0.5, 0.5), generator.uniform(1.2, 1.8), 0.0]), rays)


def rendered(generator: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> Rendered:
    """A room with 2 to 6 things on its floor, and a window in the wall behind them."""
    camera = Camera.drawn(generator, height, width)
    deep, wide, high = generator.uniform(3.5, 9.5), generator.uniform(1.5, 3.0), generator.uniform(2.3, 3.0)
    floor, walls = (generator.uniform(0.3, 0.9, (2, 3)) for _ in range(2))
    tile = generator.uniform(0.3, 0.7)
    surfaces = [
        _plane(camera, 1, 0.0, tile, floor),
        _plane(camera, 1, high, 10.0, np.full((2, 3), 0.85)),
        _plane(camera, 2, deep, generator.uniform(0.4, 1.0), walls),
        _plane(camera, 0, -wide, generator.uniform(0.4, 1.0), walls),
        _plane(camera, 0, wide, generator.uniform(0.4, 1.0), walls),
    ]
    for _ in range(int(generator.integers(2, 7))):
        place = np.array([generator.uniform(-wide + 0.4, wide - 0.4), 0.0, generator.uniform(1.3, deep - 0.4)])
        thing = _sphere if generator.random() < 0.5 else _box
        surfaces.append(thing(generator, camera, place))
    along = np.stack([hits.along for hits in surfaces])
    nearest = along.argmin(axis=0)
    depth = np.take_along_axis(along, nearest[None], 0)[0]
    normal, color = (
        np.take_along_axis(np.stack(some), nearest[None, ..., None], 0)[0]
        for some in ([hits.normal for hits in surfaces], [hits.color for hits in surfaces])
    )
    picture = _shaded(generator, camera, depth, normal, color)
    window = (nearest == 2) & _in_window(generator, camera, depth, wide, high)
    picture = np.where(window[..., None], np.array([0.85, 0.93, 1.0]), picture)
    noisy = 255 * picture + generator.normal(0, 2, picture.shape)
    return Rendered(np.clip(noisy, 0, 255).astype(np.uint8), np.where(window, 0, depth).astype(np.float32))


def _plane(camera: Camera, axis: int, at: float, tile: float, colors: np.ndarray) -> Hits:
    """A plane across an axis, tiled in two colours."""
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (at - camera.eye[axis]) / camera.rays[..., axis]
    along = np.where(along > NEAREST, along, np.inf)
    others = [other for other in range(3) if other != axis]
    points = camera.eye + np.where(np.isfinite(along), along, 0)[..., None] * camera.rays
    which = np.floor(points[..., others] / tile).sum(axis=-1).astype(int) % 2
    normal = np.zeros(3)
    normal[axis] = 1.0 if at <= camera.eye[axis] else -1.0
    return Hits(along, np.broadcast_to(normal, points.shape), colors[which])


def _sphere(generator: np.random.Generator, camera: Camera, place: np.ndarray) -> Hits:
    """A sphere that lies on the floor."""
    radius = generator.uniform(0.15, 0.6)
    center = place + np.array([0, radius, 0])
    offset = camera.eye - center
    a, b = (camera.rays**2).sum(axis=-1), (camera.rays * offset).sum(axis=-1)
    root = b**2 - a * ((offset**2).sum() - radius**2)
    along = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    along = np.where(along > NEAREST, along, np.inf)
    normal = (offset + np.where(np.isfinite(along), along, 0)[..., None] * camera.rays) / radius
    return Hits(along, normal, np.broadcast_to(_color(generator), normal.shape))


def _box(generator: np.random.Generator, camera: Camera, place: np.ndarray) -> Hits:
    """A box that stands on the floor, turned about its height."""
    half = np.array([generator.uniform(0.15, 0.5), generator.uniform(0.15, 0.7), generator.uniform(0.15, 0.5)])
    angle = generator.uniform(0, np.pi / 2)
    sin, cos = np.sin(angle), np.cos(angle)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    eye, rays = (camera.eye - place - np.array([0, half[1], 0])) @ turn.T, camera.rays @ turn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.sort(np.stack([(-half - eye) / rays, (half - eye) / rays]), axis=0)
    first, last = sides[0].max(axis=-1), sides[1].min(axis=-1)
    along = np.where((first < last) & (first > NEAREST), first, np.inf)
    across = sides[0].argmax(axis=-1)
    normal = -np.sign(np.take_along_axis(rays, across[..., None], -1)) * np.eye(3)[across]
    return Hits(along, normal @ turn, np.broadcast_to(_color(generator), normal.shape))


def _shaded(
    generator: np.random.Generator, camera: Camera, depth: np.ndarray, normal: Vectors, color: np.ndarray
) -> np.ndarray:
    """Colours in the light of a lamp under the ceiling."""
    points = camera.eye + depth[..., None] * camera.rays
    lamp = np.array([generator.uniform(-1, 1), 2.2, generator.uniform(0.5, 3)])
    way = lamp - points
    distance = np.sqrt((way**2).sum(axis=-1))
    facing = np.maximum((way * normal).sum(axis=-1) / distance, 0)
    light = 0.35 + 0.9 * facing / (1 + 0.08 * distance**2)
    return np.clip(color * light[..., None], 0, 1)


def _in_window(
    generator: np.random.Generator, camera: Camera, depth: np.ndarray, wide: float, high: float
) -> np.ndarray:
    """Which points lie in a window of the wall behind."""
    x, y = (camera.eye[axis] + depth * camera.rays[..., axis] for axis in (0, 1))
    middle, half = generator.uniform(-wide / 2, wide / 2), generator.uniform(0.3, 0.6)
    return (abs(x - middle) < half) & (y > 0.9) & (y < high - 0.4)


def _color(generator: np.random.Generator) -> np.ndarray:
    return generator.uniform(0.15, 0.95, 3)
