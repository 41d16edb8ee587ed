"""The models that ship with Hearth: where their weights are. How they came about stands in their cards."""

from pathlib import Path

MODEL_PATH = Path(__file__).with_name("hearth-small.gguf")

TRAINING_SEED = 1
TRAINING_CONVERSATIONS = 96_000
"""The weights saw `training_conversation(TRAINING_SEED, n)` for every n below this."""

SPEECH_PATH = Path(__file__).with_name("hearth-ear")
"""A folder of files that faster-whisper loads."""

TRAINING_CLIPS = 31968
"""The weights heard `voice.windows.window(TRAINING_SEED, n)` for every n below this."""
