"""Sound that somebody sent: opened, looked at and decoded, with every limit that there is.

Owns what FFmpeg's libraries (PyAV) may do with a file of a stranger. Promises: only formats and
codecs of sound are tried and nothing but the given file is read (no playlist leads elsewhere); the
announced duration is looked at before anything is decoded; decoding ends where the limit is,
whatever was announced, and holds a few seconds at a time. What cannot be read is
`audio_unreadable`, what is too long `audio_too_long`; a file that ends early is heard as far as it
goes, and said to be truncated.

Samples are mono float32 at 16 kHz, which is what Whisper hears.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Self

import av
import av.error
import numpy as np

from models.protocol import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Span = tuple[int, int]

RATE: Final = 16_000
"""Samples a second."""

FORMATS: Final = (
    "aac,aiff,amr,amrnb,amrwb,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
)
"""Containers that may be tried: what people record and send. No playlists, which name other files."""

CODECS: Final = (
    "aac,alac,amrnb,amrwb,eac3,flac,gsm,gsm_ms,libopencore_amrnb,libopencore_amrwb,libopus,mp1,mp1float,mp2,"
    "mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,"
    "pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,speex,tta,vorbis,wavpack,wmapro,wmav1,"
    "wmav2,wmavoice"
)
"""Decoders that may run. None of pictures: a video is opened for its sound alone."""

RATES: Final = range(4_000, 768_001)
"""Samples a second that a recording may have: at 1 Hz a page of bytes would be an hour."""

BLOCK_SECONDS: Final = 5
"""How much is decoded before it is resampled and handed on."""

GUESSED: Final = frozenset({"aac", "mp3", "mpeg", "mpegts"})
"""Formats whose duration FFmpeg may have guessed from size and bit rate: their packets are counted."""

MISSING_SECONDS: Final = 0.5
"""What a recording may lack of its announced duration, beside a fiftieth of it."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording that was looked at. `announced` is seconds, 0.0 where the file does not say.

    `cut_off` says that the file visibly lacks its end.
    """

    file: BinaryIO
    announced: float
    cut_off: bool = False


def too_long(longest: float) -> EngineError:
    """Refuse a recording for its duration."""
    return EngineError("audio_too_long", f"the recording is longer than {longest:.0f} seconds")


def look(file: BinaryIO, longest: float) -> Sound:
    """Open a recording without decoding it. Blocks for as long as it takes to read the file once.

    Raises `audio_unreadable` for what holds no sound and `audio_too_long` for what announces more
    than `longest` seconds.
    """
    container, stream = _open(file)
    with container:
        announced = 0.0
        if container.format.name in GUESSED or not (stream.duration or container.duration):
            announced = _counted(container, stream)
        elif stream.duration and stream.time_base:
            announced = float(stream.duration * stream.time_base)
        elif container.duration:
            announced = container.duration / av.time_base
        if announced > longest:
            raise too_long(longest)
        return Sound(file, max(0.0, announced), container.format.name == "ogg" and _ogg_is_cut_off(file))


class Decoder:
    """Decodes a recording from its beginning, as much at a time as is asked for. A context manager.

    `decoded` is seconds so far. `truncated` is true, at the end, of a recording that announced more.
    """

    def __init__(self, sound: Sound, longest: float) -> None:
        """Decode at most `longest` seconds."""
        self.ended = False
        self._sound = sound
        self._longest = longest
        self._count = 0
        self._failed = False
        self._rest: Samples = np.empty(0, np.float32)
        self._container, self._stream = _open(sound.file)
        self._blocks = self._decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def decoded(self) -> float:
        """Seconds that were decoded so far."""
        return self._count / RATE

    @property
    def truncated(self) -> bool:
        """Whether the recording ended before the end that it announced."""
        if self._sound.cut_off or self._failed:
            return True
        missing = self._sound.announced - self.decoded
        guessed = self._container.format.name in GUESSED
        return not guessed and missing > MISSING_SECONDS + self._sound.announced / 50

    def skip(self, count: int) -> int:
        """Decode `count` samples and forget them; fewer at the end. Gives how many. Raises as `read`."""
        left = count
        while left and not self.ended:
            left -= len(self.read(min(left, BLOCK_SECONDS * RATE)))
        return count - left

    def read(self, count: int) -> Samples:
        """Give `count` samples, fewer at the end (`ended` is true then).

        Raises `audio_too_long` past the limit, `audio_unreadable` where nothing could be decoded.
        """
        parts, held = [self._rest], len(self._rest)
        while held <= count and not self.ended:  # one more than asked for, to know whether it is the end
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
                if not self._count:
                    raise EngineError("audio_unreadable", "there is no sound in the file")
            else:
                self._count += len(block)
                if self._count > self._longest * RATE:
                    raise too_long(self._longest)
                parts.append(block)
                held += len(block)
        samples = np.concatenate(parts)
        self._rest = samples[count:]
        self.ended = self.ended and not len(self._rest)
        return samples[:count]

    def _decode(self) -> Iterator[Samples]:
        """Give blocks of a few seconds. A recording may change its rate or channels in the middle."""
        shape: tuple[str, str, int] | None = None
        resampler = fifo = None
        for frame in self._frames():
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != shape:
                if fifo is not None and resampler is not None:
                    yield from _resampled(resampler, fifo.read(), None)
                if frame.sample_rate not in RATES:
                    raise EngineError("audio_unreadable", f"a rate of {frame.sample_rate} Hz is not sound")
                shape = now
                # Whole numbers, as Whisper's own loader has it: what a file of floats may hold
                # beyond the loudest, and what is not a number at all, ends here.
                resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
                fifo = av.AudioFifo()
            assert fifo is not None
            assert resampler is not None
            frame.pts = None
            fifo.write(frame)
            if fifo.samples >= BLOCK_SECONDS * frame.sample_rate:
                yield from _resampled(resampler, fifo.read())
        if fifo is not None and resampler is not None:
            yield from _resampled(resampler, fifo.read(), None)

    def _frames(self) -> Iterator[AudioFrame]:
        """Decode what can be decoded: a packet that is broken is left out, a broken end is the end."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError):
                self._failed = True
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                continue
            yield from frames


def _resampled(resampler: av.AudioResampler, *frames: AudioFrame | None) -> Iterator[Samples]:
    """Give a few seconds as samples; a None at the end empties the resampler."""
    for given in frames if frames[0] is not None else frames[1:]:
        for frame in resampler.resample(given):
            yield frame.to_ndarray().reshape(-1).astype(np.float32) / 32768.0


def _open(file: BinaryIO) -> tuple[InputContainer, AudioStream]:
    unreadable = EngineError("audio_unreadable", "the file cannot be read as sound")
    file.seek(0)
    options = {"format_whitelist": FORMATS, "codec_whitelist": CODECS, "protocol_whitelist": ""}
    try:
        container = av.open(file, mode="r", metadata_errors="ignore", options=options)
    except (av.error.FFmpegError, ValueError):
        raise unreadable from None
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context.codec.name not in CODECS.split(","):
        container.close()
        raise unreadable
    return container, stream


def _counted(container: InputContainer, stream: AudioStream) -> float:
    """Seconds of all packets of a recording; nothing is decoded."""
    ticks = 0
    try:
        for packet in container.demux(stream):
            ticks += packet.duration or 0
    except (av.error.FFmpegError, ValueError):
        pass  # a broken end is the end
    return float(ticks * (stream.time_base or 0))


def _ogg_is_cut_off(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file (RFC 3533) is not whole, or not said to be the last.

    FFmpeg takes the duration of an Ogg file from its last page, so a cut file looks whole to it.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2 * 65_307))  # a page has at most 65,307 bytes
    tail = file.read()
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at < 0 or len(page) < 27 or len(page) < 27 + page[26]:  # noqa: PLR2004 - the length of a page's header
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]) or not page[5] & 0x04


def pieces(speech: Sequence[Span], longest: int, gap: int) -> list[Span]:
    """Join stretches of speech (samples: from, to) that follow within `gap`, to at most `longest` each."""
    joined: list[Span] = []
    for start, end in speech:
        if joined and start - joined[-1][1] <= gap and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
