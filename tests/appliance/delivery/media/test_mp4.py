"""A film is what was rendered, and any player takes it: real files, decoded and scanned."""

import math
from fractions import Fraction

import av
import numpy as np
import pytest

from appliance.delivery.labels.mp4_boxes import top_level
from appliance.delivery.media.mp4 import Mp4Writer, frame_rate
from appliance.delivery.media.verify import probe_video
from models.errors import BadInput, RushesError


def moving(frames=17, height=64, width=96):
    """(n, h, w, 3) soft colours that drift: like a picture, unlike a flat card."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    t = np.arange(frames, dtype=np.float32)[:, None, None]
    channels = [0.5 + 0.4 * np.sin((x + phase + 3 * t) / 17 + y / 23) for phase in (0, 20, 40)]
    return np.stack(channels, -1).astype(np.float32)


def write(path, frames, fps=16.0, chunk=4, metadata=None):
    with Mp4Writer(path, frames.shape[2], frames.shape[1], fps, metadata) as writer:
        for first in range(0, len(frames), chunk):
            writer.write(frames[first : first + chunk])
    return path


def luma(path):
    with av.open(str(path)) as file:
        return [f.to_ndarray()[: f.height] for f in file.decode(video=0)]


@pytest.mark.parametrize(("value", "code"), [(1.0, 235), (0.0, 16), (1.7, 235), (-0.2, 16)])
def test_white_is_235_and_black_is_16_in_every_pixel(tmp_path, value, code):
    path = write(tmp_path / "flat.mp4", np.full((5, 32, 48, 3), value, np.float32))
    assert {int(v) for plane in luma(path) for v in np.unique(plane)} == {code}
    with av.open(str(path)) as file:  # 10-bit words: white is 940, black is 64
        assert {int(v) << 2 for f in file.decode(video=0) for v in np.unique(f.to_ndarray()[:32])} == {code << 2}


def test_the_picture_survives_at_more_than_45_db(tmp_path):
    frames = moving()
    path = write(tmp_path / "a.mp4", frames)
    wanted = 16 + 219 * (frames @ np.array([0.2126, 0.7152, 0.0722]))
    error = np.stack(luma(path)) - wanted
    assert 10 * math.log10(219**2 / np.mean(error**2)) > 45
    assert abs(error.mean()) < 0.1


def test_facts_tags_and_metadata(tmp_path):
    path = write(tmp_path / "a.mp4", moving(33), metadata={"title": "12C T4\x1b[2J", "comment": "她转身"})
    facts = probe_video(path)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (33, 96, 64, 16.0)
    assert facts.duration_s == pytest.approx(33 / 16)
    assert (facts.codec, facts.profile, facts.pix_fmt) == ("h264", "High", "yuv420p")
    assert (facts.color_primaries, facts.color_transfer, facts.color_matrix) == ("bt709",) * 3
    assert facts.color_range == "limited"
    assert facts.metadata["title"] == "12C T4�[2J" and facts.metadata["comment"] == "她转身"
    assert "creation_time" not in facts.metadata
    assert facts.file_bytes == path.stat().st_size
    moov = path.read_bytes()
    assert b"colrnclx\x00\x01\x00\x01\x00\x01\x00" in moov  # primaries 1, transfer 1, matrix 1, not full range


def test_the_index_comes_before_the_pictures(tmp_path):
    kinds = [box.kind for box in top_level(write(tmp_path / "a.mp4", moving()))]
    assert kinds.index(b"moov") < kinds.index(b"mdat")


def test_a_key_frame_every_second_and_no_frame_refers_across_it(tmp_path):
    path = write(tmp_path / "a.mp4", moving(40), fps=16)
    with av.open(str(path)) as file:
        keys = [n for n, frame in enumerate(file.decode(video=0)) if frame.key_frame]
        assert keys == [0, 16, 32]
        file.seek(16 * 1000, stream=file.streams.video[0])  # entering at the second second gives the same pictures
        entered = [f.to_ndarray() for f in file.decode(video=0)]
    with av.open(str(path)) as file:
        whole = [f.to_ndarray() for f in file.decode(video=0)]
    assert len(entered) == 24 and all((a == b).all() for a, b in zip(entered, whole[16:], strict=True))


def test_equal_frames_give_equal_bytes_however_they_were_chunked(tmp_path):
    same = {"AIGC": "x"}
    a, b = (write(tmp_path / f"b{n}.mp4", moving(), chunk=n, metadata=same).read_bytes() for n in (1, 17))
    assert a == b
    changed = moving()
    changed[3, :16, :16] += 0.2
    c = write(tmp_path / "c.mp4", changed, metadata=same)
    shown = [probe_video(path).frames_sha256 for path in (c, tmp_path / "b1.mp4", tmp_path / "b17.mp4")]
    assert shown[0] != shown[1] == shown[2]


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (16.0, Fraction(16)),
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_rates_are_the_ones_editors_mean(tmp_path, fps, rate):
    assert frame_rate(fps) == rate
    path = write(tmp_path / "a.mp4", moving(5), fps=fps)
    with av.open(str(path)) as file:
        assert file.streams.video[0].average_rate == rate
    assert probe_video(path).duration_s == pytest.approx(float(5 / rate))


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.7, 0.999])
def test_a_film_cut_short_is_refused_in_a_readable_line(tmp_path, cut):
    data = write(tmp_path / "a.mp4", moving()).read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(BadInput, match=r"short\.mp4 is not a whole MP4 file") as caught:
        probe_video(short)
    assert "\n" not in str(caught.value)


def test_a_film_with_a_hole_in_its_pictures_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", moving())
    mdat = next(box for box in top_level(path) if box.kind == b"mdat")
    data = bytearray(path.read_bytes())
    middle = (mdat.start + mdat.end) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.mp4 is (damaged|not a playable film)"):
        probe_video(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(RushesError, match=r"none\.mp4: the file or its folder does not exist"):
        probe_video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a film, only text that somebody renamed")
    with pytest.raises(BadInput, match="not a whole MP4 file"):
        probe_video(tmp_path / "text.mp4")


@pytest.mark.parametrize(
    ("width", "height", "fps"), [(33, 16, 16), (32, 17, 16), (0, 16, 16), (32, 16, 0), (32, 16, math.nan)]
)
def test_sizes_that_cannot_be_encoded_are_refused(tmp_path, width, height, fps):
    with pytest.raises(BadInput, match="cannot be encoded"):
        Mp4Writer(tmp_path / "a.mp4", width, height, fps)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_rendering_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), Mp4Writer(tmp_path / "a.mp4", 96, 64, 16) as writer:
        writer.write(moving())
        raise ZeroDivisionError
    bad = moving(3)
    bad[1, 0, 0, 0] = np.nan
    with pytest.raises(RushesError, match=r"frame 1 of b\.mp4 has numbers that are not finite"):
        write(tmp_path / "b.mp4", bad)
    with pytest.raises(RushesError, match="no frames"):
        write(tmp_path / "c.mp4", moving(0))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_file(python, tmp_path):
    code = (
        "import resource, sys; import numpy as np; from pathlib import Path\n"
        "from appliance.delivery.media.mp4 import Mp4Writer\n"
        "from models.errors import RushesError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "noise = np.random.default_rng(0).random((24, 128, 224, 3), np.float32)\n"
        "try:\n"
        "    with Mp4Writer(Path(sys.argv[1]), 224, 128, 16) as writer: writer.write(noise)\n"
        "except RushesError as error: print(error); sys.exit(error.exit_code)\n"
    )
    done = python("-c", code, tmp_path / "a.mp4")
    assert done.returncode == 1, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "a.mp4" in done.stdout and "exceed the size" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_same_frames_give_the_same_bytes_each_time(tmp_path):
    """224 wide, textured and moving: what x264's macroblock tree encodes differently from run to run with AVX-512."""
    rng = np.random.default_rng(0)
    texture = np.repeat(np.repeat(rng.random((40, 60, 3)), 8, 0), 8, 1).astype(np.float32)
    frames = np.stack([texture[t : t + 128, 3 * t : 3 * t + 224] for t in range(24)])
    seen = {write(tmp_path / "a.mp4", frames, metadata={"AIGC": "x"}).read_bytes() for _ in range(8)}
    assert len(seen) == 1
