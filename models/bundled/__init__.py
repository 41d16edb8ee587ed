"""The model that ships with Hearth: where its weights are. How they came about stands in MODEL_CARD.md."""

from pathlib import Path

MODEL_PATH = Path(__file__).with_name("hearth-small.gguf")

TRAINING_SEED = 1
TRAINING_CONVERSATIONS = 68_352
"""The weights saw `training_conversation(TRAINING_SEED, n)` for every n below this."""
