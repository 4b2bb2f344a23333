"""Files, bytes and arrays as upright RGB pixels; and what is no picture, in a sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError
from data.images.pictures import MOST_PIXELS, opened, read, upright_size
from data.images.processor import ImageProcessor
from data.preprocessor import FILE

ROWS, COLUMNS = 20, 30


@pytest.fixture
def colours() -> np.ndarray:
    """A smooth picture that no rotation and no reflection maps to itself."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    return np.stack([8 * row, 6 * column, 4 * row + 3 * column], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def test_a_picture_may_be_a_path_bytes_or_an_array(colours: np.ndarray, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(colours), "png")
    (tmp_path / "a.png").write_bytes(content)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), content, colours):
        pixels = read(source)
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, colours)
    assert np.array_equal(read(colours[:, ::-1]), colours[:, ::-1])


def test_grey_is_every_colour_alike(colours: np.ndarray) -> None:
    grey = colours[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=-1)
    for source in (grey, grey[..., None], encoded(Image.fromarray(grey), "png")):
        assert np.array_equal(read(source), expected)


def test_what_is_transparent_loses_its_transparency_alone(colours: np.ndarray) -> None:
    alpha = np.concatenate([colours, np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS, 1) % 256], axis=-1)
    alpha = alpha.astype(np.uint8)
    assert np.array_equal(read(alpha), colours)
    assert np.array_equal(read(encoded(Image.fromarray(alpha), "png")), colours)


def test_palettes_are_looked_up(colours: np.ndarray) -> None:
    image = Image.fromarray(colours).quantize(16)
    assert np.array_equal(read(encoded(image, "gif")), np.asarray(image.convert("RGB")))


def test_cmyk_is_converted(colours: np.ndarray) -> None:
    image = Image.fromarray(colours).convert("CMYK")
    found = read(encoded(image, "tiff")).astype(int)
    assert np.abs(found - colours).max() <= 1  # the plain formula, its own inverse
    found = read(encoded(image, "jpeg", quality=95)).astype(int)
    assert np.abs(found - colours).mean() < 4


def test_of_16_bits_the_upper_8_are_taken() -> None:
    grey = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS) * 109
    for kind in ("png", "tiff"):
        pixels = read(encoded(Image.fromarray(grey), kind))
        assert np.array_equal(pixels, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_otherwise_gives_the_picture_upright(orientation: int, colours: np.ndarray) -> None:
    """The stored pixels are those that the camera had to turn by the orientation to get the picture."""
    stored = {
        1: colours,
        2: colours[:, ::-1],
        3: colours[::-1, ::-1],
        4: colours[::-1],
        5: colours.transpose(1, 0, 2),
        6: np.rot90(colours),
        7: np.rot90(colours, 2).transpose(1, 0, 2),
        8: np.rot90(colours, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), "png", exif=exif)
    assert np.array_equal(read(content), colours)
    with opened(content) as image:
        assert upright_size(image) == (ROWS, COLUMNS)


def test_of_an_animation_the_first_frame_is_taken(colours: np.ndarray) -> None:
    frames = [Image.fromarray(np.ascontiguousarray(x)) for x in (colours, colours[::-1], colours[:, ::-1])]
    content = encoded(frames[0], "webp", save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert np.array_equal(read(content), colours)


def test_a_single_pixel_is_a_picture() -> None:
    pixel = np.array([[[1, 2, 3]]], np.uint8)
    assert np.array_equal(read(encoded(Image.fromarray(pixel), "png")), pixel)
    for kind in ("ViTImageProcessor", "ConvNextImageProcessor", "LevitImageProcessor"):
        values = ImageProcessor.from_json({"image_processor_type": kind, "size": 24, "do_normalize": False})(pixel)
        assert values.shape[-1] == 3 and np.abs(values.mean((0, 1)) * 255 - [1, 2, 3]).max() < 3


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says that it is large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
PNG, JPEG = encoded(Image.fromarray(NOISE), "png"), encoded(Image.fromarray(NOISE), "jpeg")
EDGE = int(MOST_PIXELS**0.5) + 1
BROKEN = {
    "empty": (b"", r"a\.png is empty, where a picture is expected"),
    "text": (b"Once upon a time", r"a\.png is no picture of a kind that Pillow can read"),
    "cut PNG": (PNG[: len(PNG) // 2], r"a\.png is a broken picture: .*truncated"),
    "cut JPEG": (JPEG[: len(JPEG) // 2], r"a\.png is a broken picture: .*truncated"),
    "cut header": (PNG[:20], r"a\.png is (a broken picture|no picture of a kind that Pillow can read)"),
    "corrupt PNG": (PNG[:60] + bytes(40) + PNG[100:], r"a\.png is a broken picture"),
    "huge": (bomb(20_000, 20_000), r"a\.png is not decoded, for it says it is too large"),
    "large": (bomb(EDGE, EDGE), r"a\.png says it has 9,460 × 9,460 pixels, more than the 89,478,485"),
    "floats": (
        encoded(Image.fromarray(NOISE[..., 0].astype(np.float32)), "tiff"),
        r"a\.png holds numbers of 32 bits \(F\)",
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read_it in (read, ImageProcessor()):
        with pytest.raises(DataError, match=message) as caught:
            read_it(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        with pytest.raises(DataError, match=message.replace(r"a\.png", "picture 3 of it")):
            read_it(content, "picture 3 of it")


def test_what_is_no_picture_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no picture .*nowhere\.png"):
        read(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="is a folder, where a picture is expected"):
        read(tmp_path)
    for shape, dtype in (((4, 4, 3), np.float32), ((4, 4, 2), np.uint8), ((4,), np.uint8), ((1, 4, 4, 3), np.uint8)):
        with pytest.raises(DataError, match=r"the picture is an array .*: expected uint8 \[height, width\]"):
            read(np.zeros(shape, dtype))
    with pytest.raises(DataError, match=r"is an array \[0, 4, 3\] without a pixel"):
        read(np.zeros((0, 4, 3), np.uint8))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_noise_in_files_never_escapes_as_anything_but_a_sentence(tmp_path: Path) -> None:
    """Bytes flipped and cut at random: a picture, or a `DataError`."""
    generator, refused = np.random.default_rng(0), 0
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(NOISE)
    whole = [JPEG, PNG, *(encoded(image, kind) for kind in ("gif", "webp", "bmp", "tiff", "ppm"))]
    whole.append(encoded(image, "jpeg", exif=exif))
    for _ in range(40):
        for content in whole:
            broken = bytearray(content)
            for place in generator.integers(0, min(len(broken), 300), 4):
                broken[place] = generator.integers(256)
            try:
                pixels = read(bytes(broken[: generator.integers(1, len(broken) + 1)]))
                assert pixels.ndim == 3 and pixels.shape[-1] == 3 and pixels.dtype == np.uint8
            except DataError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 100


def test_a_processor_is_its_file(tmp_path: Path) -> None:
    for processor in (
        ImageProcessor(),
        ImageProcessor("ConvNextImageProcessor", size=256, crop_pct=0.9, image_mean=(0.1, 0.2, 0.3)),
        ImageProcessor("LevitImageProcessor", size=96, do_center_crop=True, crop_size=(64, 48), resample=2),
        ImageProcessor(do_resize=False, do_rescale=False, do_normalize=False),
    ):
        processor.write(tmp_path)
        assert ImageProcessor.read(tmp_path) == processor


@pytest.mark.parametrize(
    ("published", "size"),
    [
        ({"size": 96}, (96, 96)),
        ({"size": [96, 64]}, (96, 64)),
        ({"size": {"height": 96, "width": 64}}, (96, 64)),
        ({"size": {"shortest_edge": 96}}, 96),
        ({"size": 96, "feature_extractor_type": "ConvNextFeatureExtractor"}, 96),
        ({"size": 96, "image_processor_type": "LevitImageProcessorFast"}, 96),
        ({}, (224, 224)),
    ],
)
def test_sizes_as_files_have_them(published: dict, size) -> None:
    assert ImageProcessor.from_json(published).size == size


BAD_FILES = {
    "no JSON": ("{", "cannot be read as JSON"),
    "no object": ("[]", "holds no JSON object"),
    "another processor": ('{"image_processor_type": "SamImageProcessor"}', "image_processor_type='SamImageProcessor': known"),
    "longest edge": ('{"size": {"longest_edge": 9}}', "expected height and width, or shortest_edge"),
    "no size": ('{"size": 0}', "expected whole numbers above 0"),
    "a text": ('{"size": {"shortest_edge": "9"}}', "expected whole numbers above 0"),
    "both edges": (
        '{"size": [9, 9], "image_processor_type": "ConvNextImageProcessor"}',
        "a ConvNextImageProcessor takes the length of the shorter edge",
    ),
    "no crop": ('{"do_center_crop": true}', "do_center_crop without a crop_size"),
    "interpolation": ('{"resample": 9}', "resample=9: expected 0 to 5"),
    "crop_pct": ('{"crop_pct": 0}', "crop_pct=0: expected a fraction"),
    "two means": ('{"image_mean": [1, 2]}', "expected a number for each of red, green and blue"),
    "std 0": ('{"image_std": 0}', "it divides, and must not be 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_of_a_processor_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[case]
    (tmp_path / FILE).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        ImageProcessor.read(tmp_path)
    assert "\n" not in str(caught.value) and FILE in str(caught.value)
