"""Files of strangers: what is decoded, what is refused, and that nothing else happens."""

from __future__ import annotations

import io
import random
import struct
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.protocol import EngineError
from models.sound import RATE, Decoder, Sound, look, pieces
from tests.models.voice import VOICE_RATE, pack, silence, talk, tone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LIMIT = 3600.0


def decode(data: bytes, longest: float = LIMIT) -> tuple[NDArray[np.float32], Sound, Decoder]:
    sound = look(io.BytesIO(data), longest)
    parts = []
    with Decoder(sound, longest) as decoder:
        while not decoder.ended:
            parts.append(decoder.read(RATE))
    return np.concatenate(parts), sound, decoder


def refused(data: bytes, longest: float = LIMIT) -> str:
    with pytest.raises(EngineError) as error:
        decode(data, longest)
    return error.value.code


def wav(samples: bytes, *, rate: int = 16_000, claimed: int | None = None, channels: int = 1) -> bytes:
    """A WAV file of 16 bits, with any header that one likes."""
    size = len(samples) if claimed is None else claimed
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + size)
        + b"WAVEfmt \x10\0\0\0"
        + head
        + b"data"
        + struct.pack("<I", size)
        + samples
    )


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("mp3", "libmp3lame"),
        ("mp4", "aac"),
        ("adts", "aac"),
        ("mov", "alac"),
    ],
)
def test_what_people_send(form: str, codec: str) -> None:
    """Every usual form is decoded to the sound that went in, at 16 kHz, and is not called truncated."""
    rate = 44_100 if codec in {"aac", "libmp3lame"} else VOICE_RATE
    samples, sound, decoder = decode(pack(tone(3.0), form, codec, rate=rate))
    length = 3.0 * VOICE_RATE / rate
    assert len(samples) / RATE == pytest.approx(length, abs=0.1)
    assert decoder.decoded == len(samples) / RATE
    assert sound.announced == pytest.approx(length, abs=0.2)
    assert not decoder.truncated
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    loudest = np.argmax(np.abs(np.fft.rfft(middle))) * RATE / len(middle)
    assert loudest == pytest.approx(440 * rate / VOICE_RATE, abs=2)


def test_many_channels_and_rates() -> None:
    """96 kHz with 8 channels becomes mono at 16 kHz."""
    samples, _, _ = decode(pack(tone(4.0), "flac", "flac", rate=96_000, layout="7.1"))
    assert len(samples) / RATE == pytest.approx(4.0 * VOICE_RATE / 96_000, abs=0.05)
    assert np.abs(samples).max() > 0.1


def test_a_reader_takes_what_it_wants() -> None:
    """However much is asked for at a time, the samples are the same, and the end is known at the end."""
    data = pack(talk(7.0), "flac", "flac")
    whole, sound, _ = decode(data)
    for count in (1, 1000, 7 * RATE, 20 * RATE):
        with Decoder(sound, LIMIT) as decoder:
            first = decoder.read(count)
            assert len(first) == min(count, len(whole))
            assert decoder.ended == (count >= len(whole))
            rest = decoder.read(20 * RATE)
            assert decoder.ended
            assert np.array_equal(np.concatenate([first, rest]), whole)


def picture() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=1, width=16, height=16)
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(random.Random(1).randbytes(20_000), id="random"),
        pytest.param(b"Dear diary, today nobody said a word.\n" * 50, id="text"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(5000), id="png"),
        pytest.param(picture(), id="a film without sound"),
        pytest.param(PLAYLIST, id="hls"),
        pytest.param(b"ffconcat version 1.0\nfile /etc/passwd\n", id="concat"),
        pytest.param(b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", id="sdp"),
        pytest.param(wav(b""), id="wav of no length"),
        pytest.param(wav(b"")[:30], id="half a header"),
        pytest.param(wav(bytes(4000), rate=1), id="one sample a second"),
        pytest.param(pack(tone(3.0))[:60], id="the first page of an ogg"),
        pytest.param(pack(tone(3.0), "mp4", "aac")[:9000], id="an mp4 without its index"),
    ],
)
def test_what_is_no_sound(data: bytes) -> None:
    """Whatever holds no sound is refused with one code, at once, and nothing else is opened."""
    assert refused(data) == "audio_unreadable"


def test_a_recording_that_breaks_off() -> None:
    """What is there of a truncated file is heard, and it is said to be truncated."""
    for form, codec in (("ogg", "libopus"), ("webm", "libopus"), ("flac", "flac")):
        data = pack(talk(8.0), form, codec)
        samples, _, decoder = decode(data[: len(data) // 2])
        assert 1.0 < len(samples) / RATE < 7.0
        assert decoder.truncated, form


def test_a_broken_middle_is_left_out() -> None:
    """Packets that cannot be decoded do not end a recording."""
    data = bytearray(pack(talk(10.0), "mp3", "libmp3lame", rate=44_100))
    whole, _, _ = decode(bytes(data))
    data[len(data) // 2 : len(data) // 2 + 3000] = random.Random(2).randbytes(3000)
    samples, _, _ = decode(bytes(data))
    assert len(samples) > 0.8 * len(whole)


def test_the_limit_is_looked_at_first() -> None:
    """A recording that announces too much is refused before anything is decoded."""
    data = pack(tone(5.0), "flac", "flac")
    with pytest.raises(EngineError) as error:
        look(io.BytesIO(data), 4.0)
    assert error.value.code == "audio_too_long"
    assert look(io.BytesIO(data), 5.0).announced == pytest.approx(5.0)


def test_a_duration_that_nobody_tells() -> None:
    """Where the container only lets guess, or says nothing, the packets tell before anything is decoded."""
    quiet = np.concatenate([tone(2.0), silence(60.0)])
    for form, codec in (("mp3", "libmp3lame"), ("adts", "aac")):
        data = pack(quiet, form, codec, rate=44_100)
        length = len(quiet) / 44_100
        assert look(io.BytesIO(data), LIMIT).announced == pytest.approx(length, abs=0.2)
        with pytest.raises(EngineError) as error:
            look(io.BytesIO(data), length - 1)
        assert error.value.code == "audio_too_long"


def test_a_lying_duration() -> None:
    """A container that announces less than it holds is decoded up to the limit and no further."""
    data = bytearray(pack(tone(30.0), "flac", "flac"))
    # STREAMINFO: the total of samples are the 36 bits before the checksum (RFC 9639, section 8.2).
    at = data.index(b"fLaC") + 4 + 4 + 13
    data[at] &= 0xF0
    data[at + 1 : at + 5] = struct.pack(">I", VOICE_RATE)
    sound = look(io.BytesIO(bytes(data)), 10.0)
    assert sound.announced == pytest.approx(1.0)
    with Decoder(sound, 10.0) as decoder, pytest.raises(EngineError) as error:
        decoder.read(60 * RATE)
    assert error.value.code == "audio_too_long"
    assert decoder.decoded < 10.0 + 6.0


def test_a_wav_that_announces_more() -> None:
    """A header that promises an hour of a second's file is refused, or heard as the second that it is."""
    data = wav(bytes(2 * 16_000), claimed=2 * 16_000 * 3600)
    samples, _, _ = decode(data)
    assert len(samples) == 16_000


@pytest.fixture(scope="module")
def three_hours() -> bytes:
    def hours() -> Iterator[NDArray[np.int16]]:
        for _ in range(3 * 60):
            yield silence(60.0)

    return pack(hours(), "flac", "flac")


def test_hours_of_silence(three_hours: bytes) -> None:
    """Three hours in a small file are read in seconds where they are allowed, and refused at once else."""
    assert len(three_hours) < 2 << 20
    assert refused(three_hours, 3600.0) == "audio_too_long"
    started = time.perf_counter()
    sound = look(io.BytesIO(three_hours), 4 * LIMIT)
    with Decoder(sound, 4 * LIMIT) as decoder:
        while not decoder.ended:
            assert not decoder.read(300 * RATE).any()
        assert decoder.decoded == pytest.approx(3 * 3600, abs=1)
    assert time.perf_counter() - started < 60


def test_floats_that_are_no_numbers() -> None:
    """A file of NaN, infinities and giants becomes samples from -1 to 1."""
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5] * 4000, "<f4").tobytes()
    head = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    data = b"RIFF" + struct.pack("<I", 36 + len(values)) + b"WAVEfmt \x10\0\0\0" + head
    samples, _, _ = decode(data + b"data" + struct.pack("<I", len(values)) + values)
    assert len(samples) == 24_000
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 30)), max_size=30), st.integers(0, 9))
def test_pieces(steps: Sequence[tuple[int, int]], gap: int) -> None:
    """All that is spoken is in exactly one piece; pieces have a limit and bridge short pauses."""
    spans, at = [], 0
    for pause, length in steps:
        spans.append((at + pause, at + pause + length))
        at = spans[-1][1]
    found = pieces(spans, 30, gap)
    assert all(end - start <= 30 for start, end in found)
    assert all(any(start <= a and b <= end for start, end in found) for a, b in spans)
    assert {edge for piece in found for edge in piece} <= {edge for span in spans for edge in span}
    for (_, end), (start, after) in pairwise(found):
        first = next(b for a, b in spans if a == start)
        begin = next(a for a, b in found if b == end)
        assert start - end > gap or first - begin > 30
        assert after > start >= end
