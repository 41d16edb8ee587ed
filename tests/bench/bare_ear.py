"""faster-whisper called directly, as the measure of our server: `python -m tests.bench.bare_ear MODEL`.

Reads lines `PATH TEMPERATURE` from stdin (`-` is the library's own ladder) and answers each with the
seconds that it took. Silences are left out, as our server does; words before are not conditioned on,
so that a model of random weights says the same number of tokens at any time.
"""

from __future__ import annotations

import json
import sys
import time

from faster_whisper import WhisperModel


def main() -> None:
    folder, threads = sys.argv[1], int(sys.argv[2])
    model = WhisperModel(folder, device="cpu", cpu_threads=threads, local_files_only=True)
    for line in sys.stdin:
        path, temperature = line.split()
        options = {} if temperature == "-" else {"temperature": float(temperature)}
        started = time.perf_counter()
        segments, _ = model.transcribe(path, vad_filter=True, condition_on_previous_text=False, **options)
        count = len(list(segments))
        sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started, "segments": count}) + "\n")
        sys.stdout.flush()


main()
