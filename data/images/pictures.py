"""Pictures: files, bytes and arrays as upright RGB, in the way of the published image processors."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import DataError

Pixels = UInt8[np.ndarray, "height width 3"]
Source = str | Path | bytes | np.ndarray
"""A file, the bytes of one, or pixels: (height, width) grey, (height, width, 1), 3 (RGB) or 4 (RGBA), uint8."""

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""How the names of files end that hold pictures."""

MOST_PIXELS = 89_478_485
"""A picture that says it has more is not decoded: the limit from which on Pillow warns of decompression bombs."""

ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""


@contextlib.contextmanager
def opened(source: Source, name: str = "") -> Iterator[Image.Image]:
    """The picture with its header read and nothing decoded; what goes wrong inside the block is a sentence, too.

    Args:
        name: what to call it in a sentence, where `source` is no path.

    Raises:
        DataError: there is no such file, or it holds no whole picture, or one of more than `MOST_PIXELS`.
    """
    name = name or (str(source) if isinstance(source, str | Path) else "the picture")
    try:
        with _image(source, name) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{name} says it has {width:,} × {height:,} pixels, more than the {MOST_PIXELS:,} that are decoded:"
                    " make it smaller"
                )
            if image.mode in ("I", "F"):
                raise DataError(f"{name} holds numbers of 32 bits ({image.mode}), where colours are expected")
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"there is no picture {name}") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder, where a picture is expected") from None
    except PermissionError:
        raise DataError(f"{name} may not be read") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is no picture of a kind that Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is not decoded, for it says it is too large: {error}") from None
    except Exception as error:  # decoders raise whatever broken bytes lead them to
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{name} is a broken picture: {reason}") from error


def _image(source: Source, name: str) -> Image.Image:
    if isinstance(source, np.ndarray):
        return _of_array(source, name)
    if isinstance(source, bytes):
        empty, source = not source, io.BytesIO(source)
    else:
        path = Path(source).expanduser()
        empty, source = path.stat().st_size == 0, path
    if empty:
        raise DataError(f"{name} is empty, where a picture is expected")
    return Image.open(source)


def _of_array(pixels: np.ndarray, name: str) -> Image.Image:
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))):
        raise DataError(
            f"{name} is an array {pixels.dtype}{list(pixels.shape)}: expected uint8 [height, width] or [height, width, 3]"
        )
    if not pixels.size:
        raise DataError(f"{name} is an array {list(pixels.shape)} without a pixel")
    return Image.fromarray(np.ascontiguousarray(pixels))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of a picture once it stands upright, from its header alone."""
    width, height = image.size
    return (width, height) if image.getexif().get(ORIENTATION, 1) >= 5 else (height, width)


def decoded(image: Image.Image) -> Image.Image:
    """RGB, upright. What is transparent loses its transparency alone, CMYK is converted without a profile, palettes are
    looked up, of an animation the first frame is taken: as `transformers` and torchvision do. Of 16 bits a channel the
    upper 8 are taken, where Pillow alone makes white of all above 255."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()  # what the file holds, before it is closed
    return image


def examine(source: bytes | np.ndarray, name: str, *, decode: bool = False) -> int:
    """The number of a picture's pixels, if it is whole; it is decoded only where its header and its end do not say so.

    Args:
        decode: decode it in any case.

    Raises:
        DataError: as `opened`.
    """
    with opened(source, name) as image:
        if decode or not isinstance(source, bytes) or not _looks_whole(source, image):
            decoded(image)
        return image.width * image.height


def _looks_whole(content: bytes, image: Image.Image) -> bool:
    """Whether a JPEG ends with its marker, a PNG with its last chunk, each with the checksum that it says."""
    if image.format == "JPEG":
        return content.rstrip(b"\0").endswith(b"\xff\xd9")
    if image.format == "PNG" and content[-8:-4] == b"IEND":
        with Image.open(io.BytesIO(content)) as again:
            again.verify()
        return True
    return False


def read(source: Source, name: str = "") -> Pixels:
    """The pixels of a picture, upright, RGB.

    Raises:
        DataError: as `opened`.
    """
    with opened(source, name) as image:
        return np.asarray(decoded(image))


def png(pixels: np.ndarray) -> io.BytesIO:
    """The file of a picture, grey or RGB."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file
